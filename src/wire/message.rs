//! The messages that both formats encode: `TunnelMessage`, its actions, and the registration of a proxy.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::error_code::ErrorCode;
use crate::ids::{Group, MAX_WEIGHT, ServiceKey, StreamKey};

/// One message between server and proxy. The text format encodes it as a line, the binary format as a
/// [`Frame::Message`](super::Frame::Message).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelMessage {
    /// The stream that the message is about; `None` if it is about the channel or the link.
    pub key: Option<StreamKey>,
    /// The kind of the message, such as data, end or reset of a stream.
    pub action: TunnelAction,
    /// The payload, whose meaning depends on the action: bytes of the stream, a reason, a size.
    pub data: Bytes,
}

impl TunnelMessage {
    /// Creates a message about the channel or the link itself, not about a stream.
    pub fn control(action: TunnelAction, data: impl Into<Bytes>) -> Self {
        Self { key: None, action, data: data.into() }
    }

    /// Creates an `ERROR` message about the channel or the link. The peer decides by `code`; `reason` is for people.
    pub fn error(code: ErrorCode, reason: &str) -> Self {
        Self::control(TunnelAction::Error, format!("{}: {reason}", code.name()))
    }

    /// Creates a message about one stream.
    pub fn stream(key: StreamKey, action: TunnelAction, data: impl Into<Bytes>) -> Self {
        Self { key: Some(key), action, data: data.into() }
    }

    /// Returns the composite key `userChannelId:streamId`, if the message is about a stream.
    pub fn stream_key(&self) -> Option<StreamKey> {
        self.key
    }
}

/// The kind of a [`TunnelMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelAction {
    /// Authenticates a proxy of the text format; the data is the token.
    Auth,
    /// Registers the sender as a proxy for a public port.
    AddProxy(AddProxy),
    /// Ends a registration of the sender.
    RemoveProxy(RemoveProxy),
    /// The request with this number was granted; the data is the service, `8080:default`, or empty for a removal.
    Granted(u32),
    /// The request with this number was refused; the data is that of [`Error`](Self::Error).
    Refused(u32),
    /// Without a key: a request was granted (`|0|RESPONSE|`). For a stream: bytes of the target, which is how the
    /// three-field format sends a download.
    Response,
    /// A request was refused, the channel is being closed, or a stream failed. Without a key the data begins with the
    /// name of an [`ErrorCode`]; the rest is the reason for people.
    Error,
    /// Asks for a [`Pong`](Self::Pong) with the same data.
    Ping,
    /// Answers a [`Ping`](Self::Ping).
    Pong,
    /// Without a key: the sender accepts no new streams, like GOAWAY. For a stream: the stream is aborted, like
    /// [`StreamReset`](Self::StreamReset).
    Exit,
    /// Bytes of a stream; opens the stream if it is not open yet.
    Forward,
    /// Opens a stream (server to proxy) or accepts it (proxy to server); the data is empty or the transfer's total size
    /// in bytes.
    StreamStart,
    /// Bytes of a stream.
    StreamData,
    /// The sender has sent its last byte of this stream; the other direction stays open.
    StreamEnd,
    /// The stream is aborted in both directions; the data is the reason, which may begin with the name of a
    /// [`ResetCode`](super::ResetCode).
    StreamReset,
    /// Asks the peer to stop sending on this stream for now. A peer may ignore it.
    StreamPause,
    /// Revokes a [`StreamPause`](Self::StreamPause).
    StreamResume,
    /// A draining server names the server that the proxy should connect to; the data is `HOST:PORT`.
    Successor,
}

/// An action that does not exist, or whose arguments are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// Not the name of an action. The error does not repeat the name, because it is the peer's text.
    #[error("unknown action in a message")]
    Unknown,
    /// Not of the form `ADDPROXY:port[:group[:targetPort[:weight[:networks[:number]]]]]`.
    #[error(
        "ADDPROXY expects PORT[:GROUP[:TARGETPORT[:WEIGHT[:networks[:NUMBER]]]]], ports from 0 to 65535, a group of at most 64 \
         letters, a weight from 1 to {MAX_WEIGHT}"
    )]
    AddProxy,
    /// Not of the form `REMOVEPROXY:number:port`, `RESPONSE:number` or `ERROR:number`.
    #[error("REMOVEPROXY expects NUMBER:PORT, and numbered answers a NUMBER")]
    Number,
}

/// The actions without arguments, with their names on the wire.
const NAMES: [(TunnelAction, &str); 14] = [
    (TunnelAction::Auth, "AUTH"),
    (TunnelAction::Response, "RESPONSE"),
    (TunnelAction::Error, "ERROR"),
    (TunnelAction::Ping, "PING"),
    (TunnelAction::Pong, "PONG"),
    (TunnelAction::Exit, "EXIT"),
    (TunnelAction::Forward, "FORWARD"),
    (TunnelAction::StreamStart, "STREAM_START"),
    (TunnelAction::StreamData, "STREAM_DATA"),
    (TunnelAction::StreamEnd, "STREAM_END"),
    (TunnelAction::StreamReset, "STREAM_RESET"),
    (TunnelAction::StreamPause, "STREAM_PAUSE"),
    (TunnelAction::StreamResume, "STREAM_RESUME"),
    (TunnelAction::Successor, "SUCCESSOR"),
];

impl fmt::Display for TunnelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddProxy(request) => write!(f, "ADDPROXY:{request}"),
            Self::RemoveProxy(RemoveProxy { number, port }) => write!(f, "REMOVEPROXY:{number}:{port}"),
            Self::Granted(number) => write!(f, "RESPONSE:{number}"),
            Self::Refused(number) => write!(f, "ERROR:{number}"),
            other => {
                f.write_str(NAMES.iter().find(|(action, _)| action == other).map_or("", |(_, name)| name))
            }
        }
    }
}

impl FromStr for TunnelAction {
    type Err = ActionError;

    fn from_str(s: &str) -> Result<Self, ActionError> {
        if let Some((name, arguments)) = s.split_once(':') {
            return match name {
                "ADDPROXY" => arguments.parse().map(Self::AddProxy),
                "REMOVEPROXY" => {
                    let (number, port) = arguments.split_once(':').ok_or(ActionError::Number)?;
                    let (number, port) = (parse_argument(number)?, parse_argument(port)?);
                    Ok(Self::RemoveProxy(RemoveProxy { number, port }))
                }
                "RESPONSE" => parse_argument(arguments).map(Self::Granted),
                "ERROR" => parse_argument(arguments).map(Self::Refused),
                _ => Err(ActionError::Unknown),
            };
        }
        NAMES
            .iter()
            .find(|(_, name)| *name == s)
            .map(|(action, _)| action.clone())
            .ok_or(ActionError::Unknown)
    }
}

/// The argument of ADDPROXY that says that the data of the message contains networks.
const NETWORKS: &str = "networks";

/// The arguments of `ADDPROXY:port[:group[:targetPort[:weight[:networks[:number]]]]]`, in either format.
///
/// Trailing arguments may be omitted, and any but the port may be empty before another argument: `ADDPROXY:8080:::3` is
/// port 8080, the default group, no target port, and weight 3. `ADDPROXY:8080::::networks` admits only the users that
/// the data of the message names, [`UserNetworks`](crate::ids::UserNetworks): a server that does not know that argument
/// refuses the registration, instead of admitting all users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddProxy {
    /// The requested public port (0: any free port) and the group of proxies that share it.
    pub service: ServiceKey,
    /// The port that the proxy connects to for each stream, for display only.
    pub target_port: Option<u16>,
    /// The proxy's load-balancing weight, 1 to [`MAX_WEIGHT`], for all services that it serves. `None` keeps the
    /// current weight, initially 1.
    pub weight: Option<u32>,
    /// Whether the data of the message contains the networks of the users that the proxy admits.
    pub has_networks: bool,
    /// The number that the answer repeats; `None` if the proxy waits for each answer before its next request.
    pub number: Option<u32>,
}

/// The arguments of `REMOVEPROXY:number:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveProxy {
    /// The number that the answer repeats.
    pub number: u32,
    /// The public port that the sender serves no more.
    pub port: u16,
}

impl fmt::Display for AddProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        let text = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let (port, weight) = (text(self.target_port.map(u32::from)), text(self.weight));
        let networks = if self.has_networks { NETWORKS } else { "" };
        let arguments = format!(":{port}:{weight}:{networks}:{}", text(self.number));
        // Empty arguments at the end are omitted.
        f.write_str(arguments.trim_end_matches(':'))
    }
}

impl FromStr for AddProxy {
    type Err = ActionError;

    fn from_str(s: &str) -> Result<Self, ActionError> {
        let mut fields = s.split(':');
        let port = parse_number(fields.next().unwrap_or_default())?;
        // An empty group means the default one, so that `ADDPROXY:8080::80` can name a target port alone.
        let group = match fields.next() {
            None | Some("") => Group::default(),
            Some(name) => name.parse().map_err(|_| ActionError::AddProxy)?,
        };
        let target_port = match fields.next() {
            None | Some("") => None,
            Some(text) => Some(parse_number(text)?),
        };
        let weight = match fields.next() {
            None | Some("") => None,
            Some(text) => Some(parse_number(text)?),
        };
        let has_networks = match fields.next() {
            None | Some("") => false,
            Some(text) if text == NETWORKS => true,
            Some(_) => return Err(ActionError::AddProxy),
        };
        let number = fields.next().map(parse_number).transpose()?;
        if fields.next().is_some() || weight.is_some_and(|weight| !(1..=MAX_WEIGHT).contains(&weight)) {
            return Err(ActionError::AddProxy);
        }
        Ok(Self { service: ServiceKey { port, group }, target_port, weight, has_networks, number })
    }
}

/// Parses an argument of an action other than ADDPROXY: a decimal number without a sign.
fn parse_argument<T: FromStr>(text: &str) -> Result<T, ActionError> {
    parse_number(text).map_err(|_| ActionError::Number)
}

/// Parses a decimal number without a sign.
fn parse_number<T: FromStr>(text: &str) -> Result<T, ActionError> {
    // `u16::from_str` accepts a leading '+'; the protocol does not.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(ActionError::AddProxy)
}

#[cfg(test)]
mod tests;
