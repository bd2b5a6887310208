//! The proxy's reaction to the events of its link.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    channel_target::ChannelTarget,
    error::Refusal,
    link_services::LinkServices,
    observer::LinkObserver,
    server_link::GoAwayState,
    serving_board::ServingBoard,
    shared_parts::SharedParts,
    target::{self, StreamContext},
};
use crate::{
    ids::{StreamKey, clean},
    link::{Link, LinkEvents, Stream},
    mux::ChannelWish,
    telemetry::seconds,
    wire::{ErrorCode, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// The longest text of a server, in characters, that the proxy uses.
const MAX_TEXT_CHARS: usize = 200;

/// Receives the events of one link to a server.
pub(super) struct ServerLinkEvents {
    /// Where a GOAWAY of the server is recorded.
    pub(super) go_away: Arc<GoAwayState>,
    /// What all links of the proxy have in common.
    pub(super) shared: SharedParts,
    /// The services of the link: their registrations and their targets.
    pub(super) services: Arc<LinkServices>,
    /// The number of the server.
    pub(super) server: usize,
    /// Names the server in the log of a proxy with several.
    pub(super) board: ServingBoard,
    /// How many channels the link should have.
    pub(super) channels: Arc<ChannelTarget>,
    /// Shows operators the link and its streams; `None` for a proxy without a control socket.
    pub(super) observer: Option<LinkObserver>,
}

impl ServerLinkEvents {
    /// Records that the server has sent GOAWAY with this code, and logs the first one. `reason` is the text for people.
    fn record_go_away(&self, code: Option<ResetCode>, reason: &str) {
        // The end of a link that another has replaced, or that the proxy has left, looks like the server's.
        let is_old = self.go_away.is_replacement_requested() || self.go_away.is_superseded();
        if let Some(observer) = &self.observer {
            observer.stats().mark_closing();
        }
        match self.go_away.record(code) {
            true if is_old => {
                tracing::debug!("received GOAWAY on a link that is not needed any more: {reason}")
            }
            true => tracing::info!(server = self.board.label(), "received GOAWAY from the server: {reason}"),
            false => {}
        }
    }

    /// Handles the text `PORT:GROUP` with which the server grants a request.
    fn granted(&self, number: Option<u32>, text: &str) {
        let answer = text.parse().map_err(|_| {
            let reason = format!("the server answered the registration with «{text}» instead of PORT:GROUP");
            Refusal::new(None, reason)
        });
        self.services.answer_received(number, answer);
    }

    /// Handles an ERROR of the server: the refusal of a request, or why it closes a channel.
    fn refused(&self, number: Option<u32>, data: &[u8]) {
        let (code, reason) = ErrorCode::split(data);
        let reason = clean(&reason, MAX_TEXT_CHARS);
        if code.is_some_and(|code| !code.refuses_registration()) {
            return tracing::warn!(server = self.board.label(), "the server closes a channel: {reason}");
        }
        self.services.answer_received(number, Err(Refusal::new(code, reason)));
    }
}

impl LinkEvents for ServerLinkEvents {
    /// Starts the task that connects to the target and relays the stream, or refuses the stream if the maximum is open.
    fn stream_opened(&self, stream: Stream, open: Open) {
        let shared = &self.shared;
        let Some(permit) = shared.streams.admit(self.server) else {
            let (key, max) = (open.key, shared.config.max_streams);
            if let Some(stats) = &shared.streams.stats {
                stats.stream_refused();
            }
            let server = self.board.label();
            let kept =
                server.as_ref().map_or("", |_| ", or what is left is kept for the users of other servers");
            shared.streams.log.log(|| {
                tracing::warn!(
                    server,
                    "stream {key} refused: the maximum of {max} streams is open{kept} (option --max-streams)"
                );
            });
            return stream.reset(ResetCode::LimitExceeded);
        };
        let context = StreamContext {
            config: shared.config.clone(),
            services: self.services.clone(),
            server: self.server,
            connector: shared.connector.clone(),
            loops: shared.loops.clone(),
            tasks: shared.tasks.clone(),
            streams: shared.streams.clone(),
            draining: shared.draining.clone(),
            observer: self.observer.clone(),
        };
        let served = target::serve_stream(context, stream, open);
        let served = async move {
            served.await;
            drop(permit);
        };
        shared.tasks.spawn("stream", shared.streams.tracker.track_future(served));
    }

    /// Handles a message of the server about the link itself: the answer to a registration, GOAWAY in the text
    /// format, the address of a successor, or an error.
    fn message_received(&self, _link: &Arc<Link>, _channel: u16, message: TunnelMessage) {
        let text = || clean(&String::from_utf8_lossy(&message.data), MAX_TEXT_CHARS);
        match message.action {
            TunnelAction::Response => self.granted(None, &text()),
            TunnelAction::Granted(number) => self.granted(Some(number), &text()),
            TunnelAction::Error => self.refused(None, &message.data),
            TunnelAction::Refused(number) => self.refused(Some(number), &message.data),
            // The GOAWAY of a server of the text format.
            TunnelAction::Exit => {
                let code = ResetCode::from_text_reason(&message.data);
                self.record_go_away(code, &code.map_or_else(text, |code| code.to_string()));
            }
            TunnelAction::Successor => self.go_away.set_successor(text()),
            _ => {}
        }
    }

    /// Records that the server sends no new streams, and logs why.
    fn go_away_received(&self, code: ResetCode) {
        self.record_go_away(Some(code), &code.to_string());
    }

    /// Logs that all channels were lost and until when streams are kept.
    fn detached(&self, until: Instant) {
        if let Some(observer) = &self.observer {
            observer.stats().set_grace_deadline(Some(until));
        }
        let grace = seconds(until.saturating_duration_since(Instant::now()));
        tracing::warn!(
            server = self.board.label(),
            "all channels to the server were lost; open streams are kept for {grace} unless the link is resumed before"
        );
    }

    /// Logs that the link has a channel again.
    fn resumed(&self, after: Duration) {
        if let Some(observer) = &self.observer {
            observer.stats().set_grace_deadline(None);
        }
        tracing::info!(
            server = self.board.label(),
            "link to the server resumed after {after:.1?} without a channel"
        );
    }

    /// Stores the wish of one side for a number of channels, and logs the change if the link gets another number.
    fn channels_wanted(&self, wish: ChannelWish) {
        if let Some((from, to)) = self.channels.set_wish(wish) {
            let server = self.board.label();
            match wish {
                ChannelWish::Own(plan) => tracing::info!(server, "{from} → {to} channels: {}", plan.reason),
                ChannelWish::Server(_) => {
                    tracing::info!(server, "{from} → {to} channels: requested by the server")
                }
            }
        }
    }

    /// Logs that the server sent data for a stream that does not exist.
    fn unknown_stream(&self, _channel: u16, key: StreamKey) {
        tracing::debug!("the server sent data for stream {key}, which does not exist");
    }
}
