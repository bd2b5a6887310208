//! The proxy's reaction to the events of its link.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    channel_target::ChannelTarget,
    error::ServerLinkError,
    loop_detector::{LoopDetector, ServerPath},
    open_streams::OpenStreams,
    server_link::GoAwayState,
    target::{self, StreamContext},
};
use crate::{
    config::ProxyConfig,
    ids::{ServiceKey, StreamKey, clean},
    link::{Link, LinkEvents, Stream},
    mux::ChannelWish,
    net::Connector,
    runtime::Tasks,
    telemetry::seconds,
    wire::{ErrorCode, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// The longest text of a server, in characters, that the proxy uses.
const MAX_TEXT_CHARS: usize = 200;

/// The server's answer to a registration: the assigned service, or why there is none.
pub(super) type RegistrationAnswer = Result<ServiceKey, ServerLinkError>;

/// Receives the events of one link to a server.
pub(super) struct ServerLinkEvents {
    /// Where a GOAWAY of the server is recorded.
    pub(super) go_away: Arc<GoAwayState>,
    /// The configuration of the proxy: target and connect timeout of its streams.
    pub(super) config: Arc<ProxyConfig>,
    /// Connects to the target.
    pub(super) connector: Arc<Connector>,
    /// Compares the users of all streams with the connections to the target.
    pub(super) loops: Arc<LoopDetector>,
    /// The addresses of the link's first channel; set before a stream is opened.
    pub(super) path: OnceLock<ServerPath>,
    /// Spawns the task of each stream.
    pub(super) tasks: Tasks,
    /// The open streams of all links of this proxy.
    pub(super) streams: OpenStreams,
    /// How many channels the link should have.
    pub(super) channels: Arc<ChannelTarget>,
    /// Receives the server's answer to the registration; `None` once it was received.
    pub(super) answer: Mutex<Option<oneshot::Sender<RegistrationAnswer>>>,
}

impl ServerLinkEvents {
    /// Records that the server has sent GOAWAY with this code, and logs the first one. `reason` is the text for people.
    fn record_go_away(&self, code: Option<ResetCode>, reason: &str) {
        // The end of a link that another has replaced looks like the server's.
        let is_old = self.go_away.is_replacement_requested();
        match self.go_away.record(code) {
            true if is_old => tracing::debug!("received GOAWAY on a link that is replaced: {reason}"),
            true => tracing::info!("received GOAWAY from the server: {reason}"),
            false => {}
        }
    }
}

impl LinkEvents for ServerLinkEvents {
    /// Starts the task that connects to the target and relays the stream, or refuses the stream if the maximum is open.
    fn stream_opened(&self, stream: Stream, open: Open) {
        let Some(permit) = self.streams.admit() else {
            let (key, max) = (open.key, self.config.max_streams);
            self.streams.log.log(|| {
                tracing::warn!(
                    "stream {key} refused: the maximum of {max} streams is open (option --max-streams)"
                );
            });
            return stream.reset(ResetCode::LimitExceeded);
        };
        let context = StreamContext {
            config: self.config.clone(),
            connector: self.connector.clone(),
            loops: self.loops.clone(),
            path: self.path.get().copied(),
            tasks: self.tasks.clone(),
            streams: self.streams.clone(),
        };
        let served = target::serve_stream(context, stream, open);
        let served = async move {
            served.await;
            drop(permit);
        };
        self.tasks.spawn("stream", self.streams.tracker.track_future(served));
    }

    /// Handles a message of the server about the link itself: the answer to the registration, GOAWAY in the text
    /// format, the address of a successor, or an error.
    fn message_received(&self, _link: &Arc<Link>, _channel: u16, message: TunnelMessage) {
        let text = clean(&String::from_utf8_lossy(&message.data), MAX_TEXT_CHARS);
        let answer = match message.action {
            TunnelAction::Response => text.parse().map_err(|_| ServerLinkError::InvalidAnswer(text)),
            TunnelAction::Error => {
                let (code, reason) = ErrorCode::split(&message.data);
                let reason = clean(&reason, MAX_TEXT_CHARS);
                if code.is_some_and(|code| !code.refuses_registration()) {
                    return tracing::warn!("the server closes a channel: {reason}");
                }
                Err(ServerLinkError::Registration { code, reason })
            }
            // The GOAWAY of a server of the text format.
            TunnelAction::Exit => {
                let code = ResetCode::from_text_reason(&message.data);
                return self.record_go_away(code, &code.map_or(text, |code| code.to_string()));
            }
            TunnelAction::Successor => return self.go_away.set_successor(text),
            _ => return,
        };
        let waiting = self.answer.lock().take();
        match (waiting, answer) {
            // Sending fails if the registration has timed out meanwhile.
            (Some(waiting), answer) => _ = waiting.send(answer),
            (None, Err(error)) => tracing::warn!("unexpected answer of the server: {error}"),
            (None, Ok(_)) => {}
        }
    }

    /// Records that the server sends no new streams, and logs why.
    fn go_away_received(&self, code: ResetCode) {
        self.record_go_away(Some(code), &code.to_string());
    }

    /// Logs that all channels were lost and until when streams are kept.
    fn detached(&self, until: Instant) {
        let grace = seconds(until.saturating_duration_since(Instant::now()));
        tracing::warn!(
            "all channels to the server were lost; open streams are kept for {grace} unless the link is resumed before"
        );
    }

    /// Logs that the link has a channel again.
    fn resumed(&self, after: Duration) {
        tracing::info!("link to the server resumed after {after:.1?} without a channel");
    }

    /// Stores the wish of one side for a number of channels, and logs the change if the link gets another number.
    fn channels_wanted(&self, wish: ChannelWish) {
        if let Some((from, to)) = self.channels.set_wish(wish) {
            match wish {
                ChannelWish::Own(plan) => tracing::info!("{from} → {to} channels: {}", plan.reason),
                ChannelWish::Server(_) => tracing::info!("{from} → {to} channels: requested by the server"),
            }
        }
    }

    /// Logs that the server sent data for a stream that does not exist.
    fn unknown_stream(&self, _channel: u16, key: StreamKey) {
        tracing::debug!("the server sent data for stream {key}, which does not exist");
    }
}
