//! The congestion controls that the kernel offers (`TCP_CONGESTION`).

use std::{fs, io};

use socket2::{Domain, SockRef, Socket, Type};

/// Why the kernel does not use a congestion control for the connections of this process.
#[derive(Debug, thiserror::Error)]
pub enum CongestionControlError {
    /// There is none with this name, its module cannot be loaded, or this user may not use it.
    #[error("the kernel does not offer it; it offers this user: {}", .offered.join(", "))]
    NotOffered {
        /// The names of those that it offers.
        offered: Vec<String>,
    },
    /// The operating system has one congestion control for all connections.
    #[error("this operating system has no choice of congestion controls for single connections; use system")]
    Unsupported,
}

/// Checks whether the kernel lets this process use the congestion control with this name. Loads its module if that is
/// necessary and permitted.
///
/// # Errors
/// The kernel does not offer it to this process, or the operating system offers no choice.
pub fn check_congestion_control(name: &str) -> Result<(), CongestionControlError> {
    if !cfg!(target_os = "linux") {
        return Err(CongestionControlError::Unsupported);
    }
    if is_offered(name) {
        return Ok(());
    }
    // The list of available ones includes those that only a process with CAP_NET_ADMIN may use.
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    let available = available.unwrap_or_default();
    let offered = available.split_whitespace().filter(|name| is_offered(name));
    Err(CongestionControlError::NotOffered { offered: offered.map(str::to_owned).collect() })
}

/// Returns whether a new socket of this process accepts the congestion control with this name.
fn is_offered(name: &str) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    socket.is_ok_and(|socket| set(&SockRef::from(&socket), name).is_ok())
}

/// Selects the congestion control of a socket by its name.
///
/// # Errors
/// The kernel does not offer it to this process, or the operating system offers no choice.
pub(super) fn set(socket: &SockRef<'_>, name: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return socket.set_tcp_congestion(name.as_bytes());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, name);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Returns the name of the congestion control of a socket; `None` where the operating system does not report it.
pub(super) fn get(socket: &SockRef<'_>) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        // Filled up with zeros.
        let name = socket.tcp_congestion().ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
