//! Why streams end and why proxies and channels are disconnected, and the only place where these reasons become text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ids::Direction, telemetry::Shortfall};

/// The party that ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// User and target: both directions were closed by END.
    Both,
    /// The user, or the network between the user and the server.
    User,
    /// The target, or the network between the proxy and the target.
    Target,
    /// The operator, by a command.
    Operator,
    /// The proxy: its link was lost or it violated the protocol.
    Proxy,
    /// The server.
    Server,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::User => "user",
            Self::Target => "target",
            Self::Operator => "operator",
            Self::Proxy => "proxy",
            Self::Server => "server",
        })
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Both directions were closed with END, every byte was delivered, and no transfer is known to be incomplete.
    Finished,
    /// Both directions were closed with END, but within a transfer: the target, or what is behind it, closed its
    /// connection before it had sent what it had announced.
    Short,
    /// Both directions were closed with END, and the user closed its connection first, within a transfer.
    UserClosed,
    /// The user's socket failed after a proxy was assigned: RST, or another I/O error.
    UserSocketError,
    /// The proxy reported that the established connection to the target failed: RST, or another I/O error.
    TargetSocketError,
    /// The proxy could not connect to the target: refused, unreachable, or no answer in time. The text says which.
    TargetConnectFailed(String),
    /// The proxy did not answer OPEN in time: it has reported neither a connection to the target nor a failure.
    ProxyTimeout,
    /// The proxy reported that its target leads back to a public port that it serves.
    ForwardingLoop,
    /// The user's socket failed while the stream waited for a proxy: RST, or another I/O error. A FIN does not count:
    /// a user may send its request, close that direction, and wait for the response.
    UserAborted,
    /// No proxy was available within the wait time.
    NoProxy,
    /// Each proxy that could serve the stream had its maximum of streams.
    ProxiesFull,
    /// The proxy's link ended before the stream did: its channels were lost for longer than the grace period, or it
    /// shut down.
    ProxyGone,
    /// The stream carried no byte in either direction for the idle timeout.
    IdleTimeout,
    /// The operator kicked the proxy of the stream.
    ProxyKicked,
    /// The operator killed the stream or its user.
    Killed,
    /// The server shut down before the stream had ended.
    Shutdown,
    /// The proxy, or the server on its behalf, reset the stream for a protocol violation. The text says which.
    Protocol(String),
    /// The proxy reset the stream for a reason of its own, such as an exceeded limit. The text says which.
    ProxyReset(String),
    /// The task of the stream ended without a reason, by a panic or a defect in the server.
    Internal,
}

impl EndReason {
    /// The number of reasons.
    pub(in crate::telemetry) const COUNT: usize = 19;

    /// All reasons, in the order of declaration, with empty texts.
    pub(in crate::telemetry) const ALL: [Self; Self::COUNT] = [
        Self::Finished,
        Self::Short,
        Self::UserClosed,
        Self::UserSocketError,
        Self::TargetSocketError,
        Self::TargetConnectFailed(String::new()),
        Self::ProxyTimeout,
        Self::ForwardingLoop,
        Self::UserAborted,
        Self::NoProxy,
        Self::ProxiesFull,
        Self::ProxyGone,
        Self::IdleTimeout,
        Self::ProxyKicked,
        Self::Killed,
        Self::Shutdown,
        Self::Protocol(String::new()),
        Self::ProxyReset(String::new()),
        Self::Internal,
    ];

    /// Returns the party that ended the stream.
    pub fn by(&self) -> EndedBy {
        match self {
            Self::Finished => EndedBy::Both,
            Self::UserSocketError | Self::UserAborted | Self::UserClosed => EndedBy::User,
            Self::Short | Self::TargetSocketError | Self::TargetConnectFailed(_) => EndedBy::Target,
            Self::Killed | Self::ProxyKicked => EndedBy::Operator,
            Self::ProxyGone
            | Self::ProxyTimeout
            | Self::ForwardingLoop
            | Self::Protocol(_)
            | Self::ProxyReset(_) => EndedBy::Proxy,
            Self::NoProxy | Self::ProxiesFull | Self::IdleTimeout | Self::Shutdown | Self::Internal => {
                EndedBy::Server
            }
        }
    }

    /// Returns whether the stream failed: it ended otherwise than its user, its target or the operator wanted. Such an
    /// end is a warning in the log, and the totals count it.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Finished | Self::IdleTimeout | Self::Shutdown => false,
            reason => !matches!(reason.by(), EndedBy::User | EndedBy::Operator),
        }
    }

    /// Returns whether the user, the operator or a failure ended the stream while bytes could still pass, so that a
    /// shortfall of its upload says how far it had come. Otherwise the target was never reached.
    fn follows_upload(&self) -> bool {
        !matches!(
            self,
            Self::TargetConnectFailed(_)
                | Self::ProxyTimeout
                | Self::ForwardingLoop
                | Self::NoProxy
                | Self::ProxiesFull
        )
    }

    /// Returns the shortfall, unless it says nothing about a stream that ended for this reason.
    pub(in crate::telemetry) fn relevant(&self, shortfall: Option<Shortfall>) -> Option<Shortfall> {
        shortfall
            .filter(|shortfall| shortfall.direction == Direction::Down || self.follows_upload())
            .filter(|_| *self != Self::Finished)
    }

    /// Returns the reason as text, with how far the transfer had come that the stream cut short, if it did.
    pub fn describe(&self, shortfall: Option<&Shortfall>) -> String {
        let Some(shortfall) = shortfall else { return self.to_string() };
        match self {
            Self::Finished => self.to_string(),
            Self::Short => format!("short: {shortfall}"),
            Self::UserClosed => format!("ended by the user at {shortfall} (FIN)"),
            Self::UserSocketError | Self::UserAborted => {
                format!("ended by the user at {shortfall} (RST or I/O error)")
            }
            failure if failure.is_failure() => format!("short: {shortfall}, {failure}"),
            other => format!("{other} at {shortfall}"),
        }
    }

    /// Returns the reason in at most 14 characters, for a table column.
    pub fn short(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Short => "short",
            Self::UserClosed => "user closed",
            Self::UserSocketError => "user reset",
            Self::TargetSocketError => "target reset",
            Self::TargetConnectFailed(_) => "connect failed",
            Self::ProxyTimeout => "proxy timeout",
            Self::ForwardingLoop => "loop",
            Self::UserAborted => "user aborted",
            Self::NoProxy => "no proxy",
            Self::ProxiesFull => "proxies full",
            Self::ProxyGone => "proxy lost",
            Self::IdleTimeout => "idle timeout",
            Self::ProxyKicked => "proxy kicked",
            Self::Killed => "by operator",
            Self::Shutdown => "shutdown",
            Self::Protocol(_) => "protocol error",
            Self::ProxyReset(_) => "proxy reset",
            Self::Internal => "internal error",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Short => f.write_str("short: closed before all that was announced had arrived"),
            Self::UserClosed => f.write_str("ended by the user within a transfer (FIN)"),
            Self::UserSocketError => f.write_str("user connection reset or failed"),
            Self::TargetSocketError => f.write_str("target connection reset or failed"),
            Self::TargetConnectFailed(why) => write!(f, "connect to target failed: {why}"),
            Self::ProxyTimeout => f.write_str("the proxy did not answer in time"),
            Self::ForwardingLoop => f.write_str(
                "forwarding loop: the proxy's target leads back to this service; change --to of the proxy",
            ),
            Self::UserAborted => f.write_str("user connection reset or failed while waiting for a proxy"),
            Self::NoProxy => f.write_str("no proxy available"),
            Self::ProxiesFull => f.write_str(
                "each proxy of the service has its maximum of streams (option --max-streams-per-proxy)",
            ),
            Self::ProxyGone => f.write_str("link to the proxy lost"),
            Self::IdleTimeout => f.write_str("idle timeout (option --idle-timeout)"),
            Self::ProxyKicked => f.write_str("proxy kicked by the operator"),
            Self::Killed => f.write_str("killed by the operator"),
            Self::Shutdown => f.write_str("server shutdown"),
            Self::Protocol(why) => write!(f, "protocol error: {why}"),
            Self::ProxyReset(why) => write!(f, "reset by the proxy: {why}"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}

/// Why a channel was closed, or why the link of a proxy was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// The peer announced with GOAWAY or EXIT that it leaves.
    GoAway,
    /// The connection was closed without GOAWAY: the peer sent FIN, or this side stopped the channel without another
    /// reason.
    Closed,
    /// The connection was reset (RST), by the peer or by a middlebox.
    Reset,
    /// The connection was closed without close_notify of TLS: what the peer sent may be incomplete, and an attacker on
    /// the path can have closed it.
    Truncated,
    /// The peer violated TLS, or its bytes were changed in transit. The text says how.
    Tls(String),
    /// Another I/O error on the established connection.
    IoError(String),
    /// The proxy reconnected and did not name this channel as one of its own any more.
    Replaced,
    /// The keepalive timeout expired: no byte arrived, although pings were sent.
    KeepaliveTimeout,
    /// The peer violated the protocol. The text says how.
    Protocol(String),
    /// The checksum of a frame did not match: bytes were corrupted in transit.
    ChecksumMismatch,
    /// The proxy closed this channel in an orderly way, because its link does not need it. Only channels have this
    /// reason.
    Retired,
    /// The operator kicked the proxy.
    Kicked,
    /// The proxy's token was revoked, or has expired.
    TokenEnded,
    /// The server shut down.
    Shutdown,
}

impl DisconnectReason {
    /// Returns whether the connection was lost without an RST: closed, silent, or failed. A process that has died
    /// leaves an RST, a relay or a middlebox may leave either.
    pub fn is_loss_without_reset(&self) -> bool {
        matches!(
            self,
            Self::Closed | Self::Truncated | Self::KeepaliveTimeout | Self::Tls(_) | Self::IoError(_)
        )
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoAway => f.write_str("announced that it leaves (GOAWAY)"),
            Self::Closed => f.write_str("closed the connection"),
            Self::Reset => f.write_str("connection reset (RST)"),
            Self::Truncated => f.write_str("connection closed without close_notify of TLS"),
            Self::Tls(why) => write!(f, "TLS error: {why}"),
            Self::IoError(why) => write!(f, "I/O error on the connection: {why}"),
            Self::Replaced => f.write_str("replaced when the proxy reconnected"),
            Self::KeepaliveTimeout => f.write_str("keepalive timeout"),
            Self::Protocol(why) => write!(f, "protocol error: {why}"),
            Self::ChecksumMismatch => f.write_str("corruption in transit: checksum mismatch"),
            Self::Retired => f.write_str("no longer needed"),
            Self::Kicked => f.write_str("kicked by the operator"),
            Self::TokenEnded => f.write_str("its token was revoked or has expired"),
            Self::Shutdown => f.write_str("server shutdown"),
        }
    }
}
