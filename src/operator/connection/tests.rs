//! A client that reads nothing holds its own task for a bounded time.

use std::io;

use tokio::time::Instant;

use super::*;
use crate::{
    control,
    operator::{ProcessHandle, ServerHandle, Subject},
    telemetry::{LogBroadcast, Telemetry},
};

/// Returns what the connections of a server without streams share.
fn shared() -> Arc<Shared> {
    let (commands, _) = control::command_queue();
    let server = ServerHandle { telemetry: Telemetry::new(), commands, log: LogBroadcast::default() };
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    Arc::new(Shared::new(
        Subject::Server(server),
        ProcessHandle { drain, abort, reload: None },
        String::new(),
    ))
}

/// Connects a client that sends requests until nothing takes more, and reads nothing.
fn flooded() -> (Connection, UnixStream) {
    let (server, client) = UnixStream::pair().unwrap();
    loop {
        match client.try_write(b"{\"do\":\"totals\"}\n") {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let peer = Peer::of(&server).unwrap();
    let stop = CancellationToken::new();
    (Connection::new(server, peer, Access::Operate, shared(), stop), client)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_closed_after_the_write_timeout() {
    let (connection, _client) = flooded();
    let begin = Instant::now();
    connection.run().await;
    assert_eq!(begin.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_ends_an_idle_connection() {
    let (server, _client) = UnixStream::pair().unwrap();
    let (peer, stop) = (Peer::of(&server).unwrap(), CancellationToken::new());
    let connection = Connection::new(server, peer, Access::Read, shared(), stop.clone());
    let running = connection.run();
    let mut running = std::pin::pin!(running);
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, &mut running).await.expect_err("an idle client is no reason to close");
    stop.cancel();
    running.await;
}
