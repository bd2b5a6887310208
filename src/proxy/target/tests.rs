//! Unit tests of the codes with which a stream without a target is reset.

use std::time::Duration;

use super::*;
use crate::net::FailedAddress;

/// Returns the code for a connection attempt to one address that failed with this error.
fn code(error: Option<io::Error>) -> ResetCode {
    let failed = vec![FailedAddress { address: "192.0.2.1:80".parse().unwrap(), error }];
    connect_error_code(&ConnectError::Addresses { failed, timeout: Duration::from_secs(1) })
}

/// A proxy that was out of descriptors reported that its target could not be reached.
#[test]
fn the_code_names_the_side_that_failed() {
    assert_eq!(code(Some(io::ErrorKind::ConnectionRefused.into())), ResetCode::TargetRefused);
    assert_eq!(code(None), ResetCode::TargetTimeout);
    assert_eq!(code(Some(io::ErrorKind::HostUnreachable.into())), ResetCode::TargetUnreachable);
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(code(Some(io::Error::from_raw_os_error(errno))), ResetCode::LimitExceeded);
    }
}
