//! The accept loop of a listener, for the tunnel port and for public ports.
//!
//! An error of accept(2) must neither end the loop nor make it spin. The loop must not wait for a connection that it
//! has accepted: `admit` starts a task for it and returns.

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

/// The first pause after a failed accept, doubled after each further failure up to [`MAX_PAUSE`]. A process that is
/// out of file descriptors fails every accept at once until one is freed: without a pause the loop would use a whole
/// core, and if it ended instead the server would accept nothing any more.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause after a failed accept.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How many connections are accepted before the tasks that were started for them run: those that close a connection at
/// once hold its descriptor until then. tokio alone would let the loop accept 128.
const ACCEPTS_PER_TURN: u32 = 16;

/// The maximum number of connections that [`close`] accepts from a listener's backlog before it closes the listener:
/// twice the size of the backlog.
const MAX_ACCEPTS_ON_CLOSE: usize = 2048;

/// Accepts connections and passes each to `admit`, which must not block, until `stop` completes.
pub(super) async fn accept_loop(
    listener: &Listener,
    telemetry: &Telemetry,
    stop: impl Future<Output = ()>,
    mut admit: impl FnMut(TcpStream, SocketAddr),
) {
    let mut stop = std::pin::pin!(stop);
    let mut pause = MIN_PAUSE;
    let mut accepted_this_turn = 0;
    let mut failing = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((socket, addr)) => {
                pause = MIN_PAUSE;
                failing = None;
                admit(socket, addr);
                accepted_this_turn += 1;
                if accepted_this_turn == ACCEPTS_PER_TURN {
                    accepted_this_turn = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if concerns_only_connection(&error) => {}
            Err(error) => {
                if let Ok(listener) = listener.local_addr() {
                    failing.get_or_insert_with(|| telemetry.listener_fails(listener, error.to_string()));
                    telemetry.emit(EventKind::AcceptFailed { listener, reason: error.to_string() });
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = &mut stop => return,
                }
                pause = (pause * 2).min(MAX_PAUSE);
                // Without a free descriptor accept(2) fails although no connection waits. Tried again here, so that the
                // failure also ends where no further connection arrives.
                match listener.try_accept() {
                    Ok((socket, addr)) => {
                        failing = None;
                        admit(socket, addr);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        pause = MIN_PAUSE;
                        failing = None;
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// Accepts the connections in the listener's backlog, passes each to `admit`, which must not block, and closes the
/// listener. Closing it at once would reset the connections in the backlog.
///
/// # Errors
/// An error of accept(2) that concerns the listener; the rest of the backlog is reset.
pub(super) fn close(listener: Listener, admit: impl FnMut(TcpStream, SocketAddr)) -> io::Result<()> {
    close_after(listener, MAX_ACCEPTS_ON_CLOSE, admit)
}

/// [`close`] with another maximum number of connections.
fn close_after(
    listener: Listener,
    max_accepts: usize,
    mut admit: impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    // Bounded, because new connections may arrive faster than they are accepted here.
    for _ in 0..max_accepts {
        match listener.try_accept() {
            Ok((socket, addr)) => admit(socket, addr),
            Err(error) if concerns_only_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns whether an error of accept(2) concerns only the connection, which failed before it was accepted, and not
/// the listener.
fn concerns_only_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
