//! What the server measures of itself, over real connections: how long things take.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{
    soon, target,
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A target that thinks for a while before each answer.
async fn slow_to_answer(thinks: Duration) -> target::Target {
    let serve = move |mut socket: TcpStream| async move {
        let mut question = [0; 64];
        while socket.read(&mut question).await? > 0 {
            tokio::time::sleep(thinks).await;
            socket.write_all(b"answer").await?;
        }
        Ok(())
    };
    target::serve_with(serve).await
}

#[tokio::test]
async fn a_target_that_thinks_shows_in_the_time_to_its_first_byte_and_nowhere_else() {
    const USERS: u64 = 5;
    let thinks = Duration::from_millis(200);
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = slow_to_answer(thinks).await;
        let public = tunnel.proxy(target.addr, format).await;
        for number in 0..USERS {
            let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
            let info = tunnel.stream_of(user.local_addr().unwrap()).await.info;
            // How long somebody takes to ask is nobody's fault.
            let idle = Duration::from_millis(if number == 0 { 1000 } else { 0 });
            tokio::time::sleep(idle).await;
            for _ in 0..2 {
                user.write_all(b"question").await.unwrap();
                soon("an answer", user.read_exact(&mut [0; 6])).await.unwrap();
            }
            let first_byte = info.first_byte_after().unwrap();
            assert!(first_byte >= thinks, "{first_byte:?}");
            assert!(number > 0 || first_byte < idle + thinks, "{first_byte:?}");
            assert!(info.opened_after().is_some());
        }
        let all = tunnel.until("all are in", |now| now.services[0].latency.first_byte.count == USERS).await;
        for latency in [&all.services[0].latency, &all.proxies[0].latency] {
            assert_eq!(latency.open.count, USERS);
            assert!(latency.open.p50 < thinks, "{latency:?}");
            assert!(latency.first_byte.p50 >= thinks, "{latency:?}");
            assert_eq!(latency.first_byte.bars.iter().sum::<u64>(), USERS);
        }
        for channel in &all.proxies[0].channels {
            assert!(channel.round_trips.count >= 1, "{channel:?}");
            assert!(channel.round_trips.max >= channel.rtt.unwrap(), "{channel:?}");
        }
        tunnel.end().await;
    }
}
