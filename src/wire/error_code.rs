//! The error codes of ERROR messages about a channel or a link, in both formats.

use std::borrow::Cow;

/// Why the server refused a registration, or closes the channel: the name before the first colon of the data of an
/// ERROR message without a stream key, such as `PORT_IN_USE: port 8080 is in use on the server`.
///
/// A proxy decides by the code alone whether its registration was answered, and whether asking again can help. By the
/// sentence it could not: a channel that is closed because of corruption in transit reports that with ERROR, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The server's configuration does not allow the public port.
    PortNotAllowed,
    /// The operating system denies the port to the server.
    PortDenied,
    /// Another process of the server's machine listens on the port.
    PortInUse,
    /// The port is served by another group of proxies.
    OtherGroup,
    /// The port cannot be opened for another reason, such as a shortage of descriptors.
    PortUnavailable,
    /// Any port was requested, and every allowed one is in use.
    NoFreePort,
    /// The networks of the registration are none, or too many.
    InvalidNetworks,
    /// The proxy has registered for its maximum of services.
    TooManyServices,
    /// The server has closed, or is closing, the proxy's link.
    Disconnecting,
    /// The token in AUTH is wrong. Text format only: the binary format refuses it in the handshake.
    WrongToken,
    /// The server accepts no text-format proxies from this address.
    TextNotAllowed,
    /// A line other than AUTH came first.
    NotAuthenticated,
    /// A line other than ADDPROXY followed AUTH.
    NotRegistered,
    /// The server has its maximum of channels and public ports. Text format only: the binary format refuses it in the
    /// handshake.
    ServerFull,
    /// The entry of the token does not permit the connection: it has expired, or the maximum of proxies is connected.
    /// Text format only: the binary format refuses it in the handshake.
    NotPermitted,
    /// The address is blocked for a while, because it has sent too many wrong tokens. Text format only, too.
    AddressBlocked,
    /// The receiver of the code violated the protocol. The channel is being closed; not an answer to anything.
    ProtocolViolation,
    /// The checksum of a received frame did not match. The channel is being closed; not an answer to anything.
    Corruption,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::PortNotAllowed,
        Self::PortDenied,
        Self::PortInUse,
        Self::OtherGroup,
        Self::PortUnavailable,
        Self::NoFreePort,
        Self::InvalidNetworks,
        Self::TooManyServices,
        Self::Disconnecting,
        Self::WrongToken,
        Self::TextNotAllowed,
        Self::NotAuthenticated,
        Self::NotRegistered,
        Self::ServerFull,
        Self::NotPermitted,
        Self::AddressBlocked,
        Self::ProtocolViolation,
        Self::Corruption,
    ];

    /// Returns the code's name in the data of an ERROR message.
    pub fn name(self) -> &'static str {
        match self {
            Self::PortNotAllowed => "PORT_NOT_ALLOWED",
            Self::PortDenied => "PORT_DENIED",
            Self::PortInUse => "PORT_IN_USE",
            Self::OtherGroup => "OTHER_GROUP",
            Self::PortUnavailable => "PORT_UNAVAILABLE",
            Self::NoFreePort => "NO_FREE_PORT",
            Self::InvalidNetworks => "INVALID_NETWORKS",
            Self::TooManyServices => "TOO_MANY_SERVICES",
            Self::Disconnecting => "DISCONNECTING",
            Self::WrongToken => "WRONG_TOKEN",
            Self::TextNotAllowed => "TEXT_NOT_ALLOWED",
            Self::NotAuthenticated => "NOT_AUTHENTICATED",
            Self::NotRegistered => "NOT_REGISTERED",
            Self::ServerFull => "SERVER_FULL",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::AddressBlocked => "ADDRESS_BLOCKED",
            Self::ProtocolViolation => "PROTOCOL_VIOLATION",
            Self::Corruption => "CORRUPTION",
        }
    }

    /// Splits the data of an ERROR message into its code and its sentence for people. Without the name of a code, which
    /// peers of other versions and third parties may omit, the code is `None` and the sentence is the whole data.
    pub fn split(data: &[u8]) -> (Option<Self>, Cow<'_, str>) {
        let mut parts = data.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let code = Self::ALL.into_iter().find(|known| known.name().as_bytes() == name);
        let sentence =
            if code.is_some() { parts.next().unwrap_or_default().trim_ascii_start() } else { data };
        (code, String::from_utf8_lossy(sentence))
    }

    /// Returns whether the code says why a registration, or the authentication before it, was refused. The other codes
    /// say why a channel is being closed, which is no answer.
    pub fn refuses_registration(self) -> bool {
        !matches!(self, Self::ProtocolViolation | Self::Corruption)
    }

    /// Returns whether only an operator can remove the reason, by another configuration of the server or of the proxy.
    /// The other reasons may pass by themselves: a port becomes free when another process or proxy ends.
    pub fn is_permanent(self) -> bool {
        match self {
            Self::PortNotAllowed
            | Self::PortDenied
            | Self::InvalidNetworks
            | Self::TooManyServices
            | Self::WrongToken
            | Self::TextNotAllowed
            | Self::NotAuthenticated
            | Self::NotRegistered => true,
            Self::PortInUse
            | Self::OtherGroup
            | Self::PortUnavailable
            | Self::NoFreePort
            | Self::Disconnecting
            | Self::ServerFull
            | Self::NotPermitted
            | Self::AddressBlocked
            | Self::ProtocolViolation
            | Self::Corruption => false,
        }
    }
}

#[cfg(test)]
mod tests;
