//! The groups of the process at the other end of a Unix socket, `SO_PEERGROUPS` of Linux.
//!
//! One of the modules with `unsafe` (see `net::tcp_info`): no crate has a binding.

use std::io;

use tokio::net::UnixStream;

/// The largest number of supplementary groups that a process of Linux can have (`NGROUPS_MAX`).
#[cfg(target_os = "linux")]
const MAX_GROUPS: usize = 65_536;

/// Returns the supplementary groups that the peer had when it connected.
///
/// # Errors
/// An I/O error of getsockopt(2).
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn of(socket: &UnixStream) -> io::Result<Vec<u32>> {
    use std::os::fd::AsRawFd;

    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
        // SAFETY: the descriptor is open as long as `socket` is borrowed; the kernel writes at most `length` bytes to
        // `groups`, which has as many, and the length that it needs to `length`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MAX_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Returns no group: elsewhere only the primary group of the peer is known.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub(super) fn of(_: &UnixStream) -> io::Result<Vec<u32>> {
    Ok(Vec::new())
}
