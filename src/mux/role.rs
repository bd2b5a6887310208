//! The two sides of a link.

/// The side of a link that this process is. Only the server opens streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The public side, which opens a stream for each user connection.
    Server,
    /// The side behind NAT, which accepts streams and connects them to the target.
    Proxy,
}
