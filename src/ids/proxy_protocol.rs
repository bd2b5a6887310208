//! The versions of the PROXY protocol.

/// The version in which a header of the PROXY protocol is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}
