//! Listening sockets that the process has inherited from its service manager (socket activation, sd_listen_fds(3)).
//!
//! One of the five modules with `unsafe`; the others are `tcp_info`, `reuse_port`, `retransmission` and
//! `runtime::signal_disposition`. No crate both owns such a descriptor and tells its name.

use std::{
    io,
    net::TcpListener,
    os::fd::{FromRawFd, OwnedFd},
};

use socket2::{SockRef, Type};

/// Returns the listening sockets that the service manager passed, with the name of each (`FileDescriptorName=` of a
/// socket unit; that of the unit without one). To be called once: the second call would return the same descriptors.
///
/// # Errors
/// The variables `LISTEN_FDS` and `LISTEN_PID` are wrong, or a descriptor is no listening TCP socket.
#[allow(unsafe_code)]
pub fn inherited_listeners() -> io::Result<Vec<(String, TcpListener)>> {
    sd_notify::listen_fds_with_names()?
        .map(|(fd, name)| {
            // SAFETY: the service manager has passed this descriptor for this process to own it, as LISTEN_PID says,
            // and nothing else in this process has seen its number. `listen_fds` has set FD_CLOEXEC, which fails if it
            // is not open.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            check(&socket).map_err(|why| {
                io::Error::other(format!(
                    "the inherited descriptor {fd} ({name}) {why}: use ListenStream=ADDRESS:PORT"
                ))
            })?;
            Ok((name, TcpListener::from(socket)))
        })
        .collect()
}

/// Checks that a descriptor is a listening TCP socket.
///
/// # Errors
/// What it is instead.
fn check(socket: &OwnedFd) -> Result<(), &'static str> {
    let socket = SockRef::from(socket);
    match socket.r#type() {
        Err(_) => Err("is no socket"),
        Ok(kind) if kind != Type::STREAM => Err("is no TCP socket"),
        Ok(_) if socket.local_addr().map_or(true, |addr| addr.as_socket().is_none()) => {
            Err("is no TCP socket")
        }
        Ok(_) if !socket.is_listener().unwrap_or(false) => Err("does not listen"),
        Ok(_) => Ok(()),
    }
}
