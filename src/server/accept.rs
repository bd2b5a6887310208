use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    net::Listener,
    telemetry::{EventKind, Telemetry},
};

/// The first and the longest pause after a failed accept. Out of descriptors, accepting fails at once and for as
/// long as none comes back: without a pause it would take a core, without an end it would take the server.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How many connections a listener takes at the most while it is closed: twice what its queue holds.
const LAST_ONES: usize = 2048;

/// Accepts connections until `stop` is ready. `admit` must not block.
pub(super) async fn accept_loop(
    listener: &Listener,
    telemetry: &Telemetry,
    stop: impl Future<Output = ()>,
    mut admit: impl FnMut(TcpStream, SocketAddr),
) {
    let mut stop = std::pin::pin!(stop);
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((socket, addr)) => {
                pause = PAUSE.0;
                admit(socket, addr);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if let Ok(listener) = listener.local_addr() {
                    telemetry.emit(EventKind::AcceptFailed { listener, reason: error.to_string() });
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = &mut stop => return,
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Closes a listener, after it has accepted whatever waits: closing resets that. `admit` must not block.
pub(super) fn close(listener: Listener, mut admit: impl FnMut(TcpStream, SocketAddr)) -> io::Result<()> {
    // Somebody may come faster than this can take them, but not for ever.
    for _ in 0..LAST_ONES {
        match listener.try_accept() {
            Ok((socket, addr)) => admit(socket, addr),
            Err(error) if is_the_peers(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The connection died before it was accepted: nothing is wrong with the listener.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
