use std::{fmt, str::FromStr};

use bytes::Bytes;

use crate::ids::{Group, MAX_WEIGHT, ServiceKey, StreamKey};

/// One message of the tunnel, the type that both formats encode: as a line of text, or in a
/// [`Frame::Message`](super::Frame::Message).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelMessage {
    /// The stream it speaks of; `None` where it speaks of the channel itself.
    pub key: Option<StreamKey>,
    /// What it says.
    pub action: TunnelAction,
    /// What comes with it: bytes of the stream, a reason, a size.
    pub data: Bytes,
}

impl TunnelMessage {
    /// A message about the channel itself.
    pub fn control(action: TunnelAction, data: impl Into<Bytes>) -> Self {
        Self { key: None, action, data: data.into() }
    }

    /// An `ERROR` message about the channel itself. `reason` is for people: the peer shows it and decides nothing by it.
    pub fn error(reason: &str) -> Self {
        Self::control(TunnelAction::Error, reason.to_owned())
    }

    /// A message about one stream.
    pub fn stream(key: StreamKey, action: TunnelAction, data: impl Into<Bytes>) -> Self {
        Self { key: Some(key), action, data: data.into() }
    }

    /// The composite key `userChannelId:streamId`, if the message speaks of a stream.
    pub fn stream_key(&self) -> Option<StreamKey> {
        self.key
    }
}

/// What a [`TunnelMessage`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelAction {
    /// Proves that the proxy may register; the data is the token.
    Auth,
    /// Registers the sender as a proxy of a public port.
    AddProxy(AddProxy),
    /// A request was granted (`|0|RESPONSE|`), or, for a stream, bytes of the target (the old format's download).
    Response,
    /// A request was refused or a stream failed; the data is the reason.
    Error,
    /// Asks for a [`Pong`](Self::Pong) with the same data.
    Ping,
    /// Answers a [`Ping`](Self::Ping).
    Pong,
    /// The sender leaves, or, for a stream, is done with it.
    Exit,
    /// [`StreamStart`](Self::StreamStart) if the stream has none yet, and data.
    Forward,
    /// Opens a stream (server to proxy) or accepts it (proxy to server); the data is empty or the total size.
    StreamStart,
    /// Bytes of a stream.
    StreamData,
    /// The sender has sent its last byte of this stream; the other direction goes on.
    StreamEnd,
    /// The stream failed; the data is the reason.
    StreamReset,
    /// Asks the peer to send no more of this stream for now. A peer may ignore it.
    StreamPause,
    /// Takes a [`StreamPause`](Self::StreamPause) back.
    StreamResume,
    /// A server that is about to leave names the one to go to; the data is `HOST:PORT`.
    Successor,
}

/// An action that is no action of ours, or one whose arguments make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// Not the name of an action. The name is not repeated: it is the peer's text.
    #[error("unknown action")]
    Unknown,
    /// `ADDPROXY` wants `ADDPROXY:port[:group[:targetPort[:weight]]]`.
    #[error(
        "ADDPROXY wants PORT[:GROUP[:TARGETPORT[:WEIGHT]]], ports from 0 to 65535, a group of at most 64 letters, \
         a weight from 1 to {MAX_WEIGHT}"
    )]
    AddProxy,
}

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
            other => {
                f.write_str(NAMES.iter().find(|(action, _)| action == other).map_or("", |(_, name)| name))
            }
        }
    }
}

impl FromStr for TunnelAction {
    type Err = ActionError;

    fn from_str(s: &str) -> Result<Self, ActionError> {
        if let Some(request) = s.strip_prefix("ADDPROXY:") {
            return request.parse().map(Self::AddProxy);
        }
        NAMES
            .iter()
            .find(|(_, name)| *name == s)
            .map(|(action, _)| action.clone())
            .ok_or(ActionError::Unknown)
    }
}

/// What `ADDPROXY:port[:group[:targetPort[:weight]]]` asks for, in either format.
///
/// What is left out at the end is not said; a group or a target port before something that is said may be empty:
/// `ADDPROXY:8080:::3` is port 8080, the default group, and weight 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddProxy {
    /// The public port (0: any free one) and the group that shares it.
    pub service: ServiceKey,
    /// The port that the proxy dials for each stream, told for display only.
    pub target_port: Option<u16>,
    /// The proxy's share of new streams beside other proxies, 1 to [`MAX_WEIGHT`]; it holds for all that the proxy
    /// serves. Who says nothing keeps what it has, at first 1. Only servers that know weights take it.
    pub weight: Option<u32>,
}

impl fmt::Display for AddProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        match (self.target_port, self.weight) {
            (None, None) => Ok(()),
            (Some(port), None) => write!(f, ":{port}"),
            (None, Some(weight)) => write!(f, "::{weight}"),
            (Some(port), Some(weight)) => write!(f, ":{port}:{weight}"),
        }
    }
}

impl FromStr for AddProxy {
    type Err = ActionError;

    fn from_str(s: &str) -> Result<Self, ActionError> {
        let mut fields = s.split(':');
        let port = number(fields.next().unwrap_or_default())?;
        // An empty group means the default one, so that `ADDPROXY:8080::80` can name a target port alone.
        let group = match fields.next() {
            None | Some("") => Group::default(),
            Some(name) => name.parse().map_err(|_| ActionError::AddProxy)?,
        };
        let target_port = match fields.next() {
            None | Some("") => None,
            Some(text) => Some(number(text)?),
        };
        let weight = match fields.next() {
            None | Some("") => None,
            Some(text) => Some(number(text)?),
        };
        if fields.next().is_some() || weight.is_some_and(|weight| !(1..=MAX_WEIGHT).contains(&weight)) {
            return Err(ActionError::AddProxy);
        }
        Ok(Self { service: ServiceKey { port, group }, target_port, weight })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, ActionError> {
    // `u16::from_str` takes a leading '+', the wire does not.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(ActionError::AddProxy)
}

#[cfg(test)]
mod tests;
