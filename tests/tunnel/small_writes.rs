//! Interactive sessions: thousands of writes of a few bytes, each of which becomes a chunk of its own.

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

/// Regression: unacknowledged small chunks were charged for their bookkeeping, and acknowledgements were due only after
/// a number of payload bytes. After about nine hundred keys sender and receiver waited for each other.
#[tokio::test]
async fn an_interactive_session_never_stalls() {
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
