//! Parse errors of identifiers.

/// The text is not the identifier or the name that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not six hexadecimal digits.
    #[error("invalid user channel id: expected six hexadecimal digits, like 3F9A1C")]
    User,
    /// Not a decimal number that fits 32 bits.
    #[error("invalid stream id: expected a decimal number")]
    Stream,
    /// Not `USER:STREAM`.
    #[error("invalid stream key: expected USER:STREAM, like 3F9A1C:2")]
    Key,
    /// Empty, longer than 64 characters, or with a character outside `[A-Za-z0-9._-]`.
    #[error("invalid group name: expected 1 to 64 letters, digits, '.', '_' or '-'")]
    Group,
    /// Not `PORT` or `PORT:GROUP`.
    #[error("invalid service: expected PORT or PORT:GROUP, like 8080:default")]
    Service,
    /// Not the name of a priority.
    #[error("invalid priority: expected background, low, normal, high or urgent")]
    Priority,
    /// Not the name of a policy.
    #[error("invalid load-balancing policy: expected round-robin, weighted, least-streams or peak-ewma")]
    Policy,
    /// Not a number of bytes per second, or out of range.
    #[error("invalid rate: expected a number of bytes per second, like 10M (10,000,000), 10MiB, 500K or 800")]
    Rate,
    /// Not a number of bytes, or too large.
    #[error("invalid size: expected a number of bytes, like 8192, 8K (8,000), 8KiB (8,192) or 1.5M")]
    ByteSize,
    /// Not an IP address, nor the /64 of one.
    #[error("invalid address: expected 192.0.2.1, 2001:db8::1 or 2001:db8::/64")]
    Address,
    /// Not `P` followed by a number.
    #[error("invalid proxy id: expected P and a number, like P3")]
    Proxy,
    /// Not a proxy id, a slash and a number.
    #[error("invalid channel id: expected PROXY/NUMBER, like P3/1")]
    Channel,
    /// Not 64 hexadecimal digits.
    #[error("invalid key of user ids: expected 64 hexadecimal digits")]
    UserIdKey,
}
