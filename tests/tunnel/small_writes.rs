//! Someone types: thousands of writes of a few bytes, each of which is a chunk of its own to whoever carries it.

use std::time::Duration;

use crate::support::{
    target,
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Small chunks were charged for their bookkeeping until they were acknowledged, and acknowledgements were due after
/// so many bytes: after some nine hundred keys each waited for the other.
#[tokio::test]
async fn a_session_of_single_keys_goes_on_for_ever() {
    let echo = target::echo().await;
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(echo.addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        user.set_nodelay(true).unwrap();
        for key in 0..3000u32 {
            let typed = &b"ls -l /somewhere"[..1 + key as usize % 16];
            let mut shown = vec![0; typed.len()];
            user.write_all(typed).await.unwrap();
            let what = format!("{format:?}: the echo of key {key}");
            within(Duration::from_secs(5), &what, user.read_exact(&mut shown)).await.unwrap();
            assert_eq!(shown, typed);
        }
        drop(user);
        tunnel.end().await;
    }
}
