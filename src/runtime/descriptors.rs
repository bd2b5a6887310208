//! The limit of open file descriptors (`RLIMIT_NOFILE`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most descriptors that macOS accepts as a soft limit (`OPEN_MAX`) where the hard limit is infinite.
const OPEN_MAX: u64 = 10_240;

/// Raises the soft limit of open descriptors to the hard limit, and returns the limit that is in force now.
///
/// The soft limit is 1,024 on most systems because of select(2), which cannot handle larger descriptors; this program
/// uses epoll and kqueue. The hard limit is what the administrator permits, mostly 524,288 or more.
///
/// # Errors
/// setrlimit(2) failed, and the limit is what it was before.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let before = getrlimit(Resource::Nofile);
    let raise_to = |soft| setrlimit(Resource::Nofile, Rlimit { current: soft, maximum: before.maximum });
    if before.current != before.maximum
        && let Err(error) = raise_to(before.maximum)
        && (before.current.is_none_or(|soft| soft >= OPEN_MAX) || raise_to(Some(OPEN_MAX)).is_err())
    {
        return Err(error.into());
    }
    Ok(descriptor_limit())
}

/// Returns the limit of open descriptors of this process.
pub fn descriptor_limit() -> u64 {
    // `None` is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
