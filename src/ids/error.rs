//! Parse errors of identifiers.

/// The text is not the identifier or the name that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not six hexadecimal digits.
    #[error("a user channel id is six hexadecimal digits, like 3F9A1C")]
    User,
    /// Not a decimal number that fits 32 bits.
    #[error("a stream id is a decimal number")]
    Stream,
    /// Not `USER:STREAM`.
    #[error("a stream key is USER:STREAM, like 3F9A1C:2")]
    Key,
    /// Empty, longer than 64 characters, or with a character outside `[A-Za-z0-9._-]`.
    #[error("a group is 1 to 64 letters, digits, '.', '_' or '-'")]
    Group,
    /// Not `PORT` or `PORT:GROUP`.
    #[error("a service is PORT or PORT:GROUP, like 8080:default")]
    Service,
    /// Not the name of a priority.
    #[error("a priority is background, low, normal, high or urgent")]
    Priority,
    /// Not the name of a policy.
    #[error("a policy is round-robin, weighted, least-streams or peak-ewma")]
    Policy,
    /// Not a number of bytes per second, or out of range.
    #[error("a rate is a number of bytes a second, like 10M, 1.5M, 500K or 800")]
    Rate,
    /// Not `P` followed by a number.
    #[error("a proxy id is P and a number, like P3")]
    Proxy,
}
