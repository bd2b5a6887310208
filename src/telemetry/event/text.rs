//! The text of each event, which log and screen show.

use std::{fmt, time::Duration};

use super::{CommandOutcome, EventKind};

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { addr } => write!(f, "listening for proxies on {addr}"),
            Self::ServiceOpened { service } => write!(f, "service {service} opened"),
            Self::ServiceClosed { service } => write!(f, "service {service} closed"),
            Self::ProxyConnected { proxy, name, addr } => {
                write!(f, "proxy {proxy} {name} authenticated from {addr}")
            }
            Self::ProxyRegistered { proxy, name, addr, service } => {
                write!(f, "proxy {proxy} {name} registered for service {service} from {addr}")
            }
            Self::ProxyDeregistered { proxy, name, service } => {
                write!(f, "proxy {proxy} {name} serves {service} no more; its open streams continue")
            }
            Self::RegistrationRefused { proxy, name, reason } => {
                write!(f, "registration of proxy {proxy} {name} refused: {reason}")
            }
            Self::ProxyDisconnected { proxy, name, reason } => {
                write!(f, "proxy {proxy} {name} disconnected: {reason}")
            }
            Self::GracePeriodStarted { proxy, grace } => {
                write!(f, "proxy {proxy} lost its last channel; its streams are kept for {}", seconds(*grace))
            }
            Self::ProxyResumed { proxy, after } => {
                write!(f, "proxy {proxy} reconnected after {after:.1?}; its streams resumed")
            }
            Self::ChannelConnected { channel, addr } => write!(f, "channel {channel} connected from {addr}"),
            Self::ChannelDisconnected { channel, reason } => {
                write!(f, "channel {channel} disconnected: {reason}")
            }
            Self::ServerConnected { link: _, server, addr } => {
                write!(f, "link to server {server} established ({addr})")
            }
            Self::ServerDisconnected { link: _, server, reason } => {
                write!(f, "link to server {server} ended: {reason}")
            }
            Self::ChannelOpened { channel, addr } => write!(f, "channel {channel} established to {addr}"),
            Self::ChannelsPlanned { proxy, plan } => write!(f, "proxy {proxy}: {plan}"),
            Self::UserJoined { user, addr, service } => {
                write!(f, "user {user} connected to service {service} from {addr}")
            }
            Self::UserLeft { user } => write!(f, "user {user} disconnected"),
            Self::StreamOpened { key, addr, service } => {
                write!(f, "stream {key} opened from {addr} to service {service}")
            }
            Self::StreamAssigned { key, proxy, name } => {
                write!(f, "stream {key} assigned to proxy {proxy} {name}")
            }
            // The content is not logged: request paths are for the operator's screen, while logs are kept and shared.
            Self::StreamEnded {
                key,
                reason,
                shortfall,
                down,
                up,
                addr,
                service,
                proxy,
                proxy_name,
                lasted,
                time_to_first_byte,
                content: _,
            } => {
                let why = reason.describe(shortfall.as_ref());
                write!(f, "stream {key} ended: {why} (down {down} bytes, up {up} bytes)")?;
                write!(f, " user={addr} service={service} proxy=")?;
                match proxy {
                    Some(proxy) => write!(f, "{proxy}")?,
                    None => f.write_str("none")?,
                }
                match proxy_name.as_deref() {
                    // In quotes where blanks would end the value.
                    Some(name) if name.contains([' ', '"']) => write!(f, " proxy_name={name:?}")?,
                    Some(name) => write!(f, " proxy_name={name}")?,
                    None => {}
                }
                write!(f, " seconds={:.3}", lasted.as_secs_f64())?;
                if let Some(time) = time_to_first_byte {
                    write!(f, " ttfb_seconds={:.3}", time.as_secs_f64())?;
                }
                write!(f, " ended_by={}", reason.by())
            }
            Self::UserRejected { addr, service, reason } => {
                write!(f, "user connection from {addr} to service {service} refused: {reason}")
            }
            Self::HandshakeFailed { addr, reason, is_refusal } => {
                let how = if *is_refusal { "refused" } else { "failed" };
                write!(f, "connection from {addr} to the tunnel port {how}: {reason}")
            }
            Self::AddressBlocked { address, wrong_tokens, time } => write!(
                f,
                "{address} blocked for {} after {wrong_tokens} wrong tokens (`:unblock {address}` in the cockpit)",
                seconds(*time)
            ),
            Self::UnknownStream { channel, key } => {
                write!(f, "data for stream {key} on channel {channel} discarded: there is no such stream")
            }
            Self::AcceptFailed { listener, reason } => {
                write!(f, "cannot accept connections on {listener}: {reason}")
            }
            Self::OperatorActed { what, by, outcome } => {
                write!(f, "operator: {what} {by}")?;
                match outcome {
                    CommandOutcome::Done(streams) => write!(f, " streams={streams}"),
                    CommandOutcome::Failed(why) => write!(f, " failed={why:?}"),
                }
            }
            Self::TokensChanged { added, changed, revoked } => {
                f.write_str("tokens reloaded:")?;
                for (what, names) in [("added", added), ("changed", changed), ("revoked", revoked)] {
                    if !names.is_empty() {
                        write!(f, " {what} {}", names.join(", "))?;
                    }
                }
                Ok(())
            }
            Self::TokensInvalid { reason } => {
                write!(f, "tokens not reloaded, those that were read before still apply: {reason}")
            }
            Self::TokenEnded { entry, has_expired, proxies, within } => write!(
                f,
                "the token of «{entry}» {}; proxies connected with it: {proxies}, whose open streams have {} to end",
                if *has_expired { "has expired" } else { "was revoked" },
                seconds(*within)
            ),
            Self::TlsKeyChanged { file, previous, fingerprint } => write!(
                f,
                "read another TLS key: {file}; proxies with --fingerprint {previous} stay connected, but new connections are refused: \
                 give them --fingerprint {fingerprint}, in their configuration file with `underpass reload`, else with a restart"
            ),
            Self::RecordingFailed { dir, reason } => write!(
                f,
                "cannot write the recording in {dir}: {reason}; the server continues without it and tries a new file every 10 s"
            ),
            Self::RecordingContinued { dir, missed_events } => {
                write!(f, "the recording in {dir} continues; events missing in it: {missed_events}")
            }
            Self::DrainStarted { open_streams } => write!(f, "draining, streams still open: {open_streams}"),
            Self::DrainDeadlineSet { open_streams, within } => {
                write!(f, "drain deadline in {}; streams still open: {open_streams}", seconds(*within))
            }
            Self::TaskPanicked { task } => write!(f, "task {task} panicked"),
        }
    }
}

/// Formats a duration in seconds with at most one decimal, such as `30 s` or `2.5 s`: as operators configure timeouts.
pub fn seconds(time: Duration) -> String {
    let tenths = (time.as_secs_f64() * 10.0).round() / 10.0;
    format!("{tenths} s")
}
