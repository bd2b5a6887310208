//! The format in which a proxy speaks.

/// The format in which a proxy speaks to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFormat {
    /// The binary format: several channels, flow control for each stream, and the token is never sent.
    Binary,
    /// The text format, on one channel.
    Text,
}
