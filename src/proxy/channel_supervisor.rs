//! Keeps the channels of one link established: reconnects those that are lost, and resumes the link if all are.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{RwLock, watch};

use super::{
    backoff::Backoff,
    channel_dialer::{ChannelDialer, ResumptionTicket},
    channel_target::ChannelTarget,
    error::ServerLinkError,
    observer::LinkObserver,
    server_link::GoAwayState,
    serving_board::ServingBoard,
};
use crate::{
    link::{Driver, Link, NewChannel},
    net::Negotiation,
    telemetry::{ChannelFormat, DisconnectReason, ServedChannel, ServedStats},
    wire::{HelloMode, Welcome},
};

/// A channel or a link that lasted at least this long counts as a success: after its loss the first attempt to
/// reconnect is made at once, without backoff.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The longest backoff after an attempt that failed because this host has no network at the moment, or because nothing
/// answered. Such attempts cost the server next to nothing, and the open streams wait for the first one that succeeds.
pub(super) const MAX_BACKOFF_IN_OUTAGE: Duration = Duration::from_millis(500);

/// How a channel ended.
struct ChannelEnd {
    /// Why.
    reason: DisconnectReason,
    /// The result of the attempt to replace it that had begun before its end, because the peer did not answer on it;
    /// `None` if the peer had answered until then.
    replacement: Option<Result<Option<Driver>, ServerLinkError>>,
}

/// Keeps the channels of one link established. Shared by one task per channel.
pub(super) struct ChannelSupervisor {
    /// Connects to the server and runs handshakes.
    dialer: ChannelDialer,
    /// The link whose channels are kept established.
    link: Arc<Link>,
    /// How many channels the link should have.
    target: Arc<ChannelTarget>,
    /// Whether the server has sent GOAWAY, after which lost channels are not established again.
    go_away: Arc<GoAwayState>,
    /// Names the server in the log of a proxy with several.
    board: ServingBoard,
    /// The current resumption ticket, which allows to add a channel or to resume the link.
    ticket: Mutex<ResumptionTicket>,
    /// Held for reading by a handshake that adds a channel and for writing by one that resumes the link, so that a
    /// resumption runs alone: the server detaches all earlier channels and issues another ticket, which later
    /// channels must present.
    resume_lock: RwLock<()>,
    /// Counts the channels for the metrics; `None` for a proxy without.
    stats: Option<Arc<ServedStats>>,
    /// Shows operators the channels; `None` for a proxy without a control socket.
    observer: Option<LinkObserver>,
}

impl ChannelSupervisor {
    /// Creates the supervisor of a link that has no channel yet. `welcome` is the server's answer to the first
    /// handshake.
    pub(super) fn new(
        dialer: ChannelDialer,
        link: Arc<Link>,
        target: Arc<ChannelTarget>,
        go_away: Arc<GoAwayState>,
        board: ServingBoard,
        welcome: &Welcome,
    ) -> Self {
        let ticket = Mutex::new(ResumptionTicket::from(welcome));
        let resume_lock = RwLock::default();
        Self { dialer, link, target, go_away, board, ticket, resume_lock, stats: None, observer: None }
    }

    /// Counts the channels in `stats`, and shows them to `observer`.
    pub(super) fn counting(self, stats: Option<Arc<ServedStats>>, observer: Option<LinkObserver>) -> Self {
        Self { stats, observer, ..self }
    }

    /// Returns the link whose channels are kept established.
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Keeps one channel established until the link has ended, it has more channels than it should have, the server
    /// sends GOAWAY, or the server does not know the link any more. `first` is the channel to start with; without it
    /// one is established.
    pub(super) async fn run(&self, first: Option<Driver>) {
        let config = &self.dialer.config;
        let mut backoff = Backoff::new(config.min_backoff, config.max_backoff);
        let mut next = match first {
            Some(first) => Ok(Some(first)),
            None => self.establish().await,
        };
        while !self.link.has_ended() {
            let mut max_pause = config.max_backoff;
            match next {
                Ok(Some(channel)) => {
                    // The target may have changed while this channel was established.
                    self.retire_surplus();
                    let begin = Instant::now();
                    let ChannelEnd { reason, replacement } = self.run_channel(channel).await;
                    if reason == DisconnectReason::Retired {
                        return;
                    }
                    tracing::info!(server = self.board.label(), "channel to the server lost: {reason}");
                    if self.go_away.is_received() {
                        return;
                    }
                    if let Some(replacement) = replacement {
                        backoff.reset();
                        next = replacement;
                        continue;
                    }
                    // At once, because the streams of this channel may be waiting for another one.
                    if begin.elapsed() >= STABLE_AFTER {
                        backoff.reset();
                        next = self.establish().await;
                        continue;
                    }
                }
                // The link ended during the handshake.
                Ok(None) => {}
                Err(error) => {
                    if error.is_certificate_refused() {
                        // The other channels continue, and the operator has to know why there are no more.
                        tracing::warn!(
                            server = self.board.label(),
                            "cannot establish another channel to the server: {error}"
                        );
                    } else {
                        tracing::debug!("cannot establish a channel to the server: {error}");
                    }
                    if self.is_link_unknown(&error) {
                        return self.link.close(&DisconnectReason::Closed);
                    }
                    if error.is_outage() {
                        max_pause = MAX_BACKOFF_IN_OUTAGE;
                    }
                }
            }
            if self.target.remove_keeper() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_pause().min(max_pause)) => {}
                () = self.link.wait_ended() => return,
                () = self.go_away.wait_received() => return,
            }
            next = self.establish().await;
        }
    }

    /// Drives a channel until it ends. While the peer does not answer on it, establishes a replacement. The first one
    /// that works is kept: the channel if the peer answers on it again meanwhile, and otherwise the replacement.
    async fn run_channel(&self, channel: Driver) -> ChannelEnd {
        let (id, mut is_responsive) = (channel.id(), channel.watch_responsive());
        let mut running = pin!(channel.run());
        loop {
            tokio::select! {
                biased;
                reason = &mut running => return ChannelEnd { reason, replacement: None },
                () = wait_until(&mut is_responsive, false) => {}
            }
            tracing::debug!("no answer on channel {id}; connecting a replacement");
            let mut replacing = pin!(self.establish_replacement());
            let replacement = tokio::select! {
                // Polled in this order: a channel that works again is better than a new one, because nothing has to be
                // retransmitted.
                biased;
                reason = &mut running => {
                    let replacement = (reason != DisconnectReason::Retired).then_some(replacing);
                    let replacement = match replacement {
                        Some(replacing) => Some(replacing.await),
                        None => None,
                    };
                    return ChannelEnd { reason, replacement };
                }
                () = wait_until(&mut is_responsive, true) => continue,
                replacement = &mut replacing => replacement,
            };
            // There is none if the link has ended or drains.
            if !matches!(replacement, Ok(None)) {
                self.link.close_unresponsive_channel(id);
            }
            return ChannelEnd { reason: running.await, replacement: Some(replacement) };
        }
    }

    /// Establishes a channel to replace one on which the peer does not answer, and tries again until that succeeds, the
    /// link ends or the server sends GOAWAY.
    async fn establish_replacement(&self) -> Result<Option<Driver>, ServerLinkError> {
        let config = &self.dialer.config;
        let mut backoff = Backoff::new(config.min_backoff, config.max_backoff);
        loop {
            let error = match self.establish().await {
                Ok(replacement) => return Ok(replacement),
                Err(error) if self.is_link_unknown(&error) => return Err(error),
                Err(error) => error,
            };
            tracing::debug!("cannot replace a channel on which the server does not answer: {error}");
            let max_pause = if error.is_outage() { MAX_BACKOFF_IN_OUTAGE } else { config.max_backoff };
            tokio::select! {
                () = tokio::time::sleep(backoff.next_pause().min(max_pause)) => {}
                () = self.serves_no_more() => return Ok(None),
            }
        }
    }

    /// Has one channel retired if there are more keepers of channels than there should be. Returns whether one is.
    pub(super) fn retire_surplus(&self) -> bool {
        let is_surplus = self.target.remove_keeper();
        let is_retiring = is_surplus && self.link.retire_channel();
        if is_surplus && !is_retiring {
            // The link has only one channel now. The tasks that are reconnecting notice that they are too many.
            self.target.restore_keeper();
        }
        is_retiring
    }

    /// Waits until the link has ended or the server has sent GOAWAY: from then on no channel is added.
    pub(super) async fn serves_no_more(&self) {
        tokio::select! {
            () = self.link.wait_ended() => {}
            () = self.go_away.wait_received() => {}
        }
    }

    /// Establishes one more channel, or resumes the link if it has none. Returns `None` if the link has ended
    /// meanwhile.
    async fn establish(&self) -> Result<Option<Driver>, ServerLinkError> {
        let joining = self.resume_lock.read().await;
        if self.link.has_channel() {
            return self.handshake(HelloMode::Join).await;
        }
        drop(joining);
        let _alone = self.resume_lock.write().await;
        // Another task may have resumed the link while this one waited for the lock.
        let mode = if self.link.has_channel() { HelloMode::Join } else { HelloMode::Resume };
        self.handshake(mode).await
    }

    /// Runs the handshake of one channel with the current ticket, stores the ticket that a resumption returns, and
    /// attaches the channel to the link.
    async fn handshake(&self, mode: HelloMode) -> Result<Option<Driver>, ServerLinkError> {
        let ticket = *self.ticket.lock();
        let (negotiation, welcome) = match self.dialer.add_channel(mode, ticket).await {
            // HELLO has no checksum: corruption in transit may have changed the link's id. The answer ends all streams,
            // so that a second attempt has to confirm it.
            Err(error) if error.is_unknown_link() => self.dialer.add_channel(mode, ticket).await?,
            added => added?,
        };
        if mode == HelloMode::Resume {
            *self.ticket.lock() = ResumptionTicket::from(&welcome);
        }
        Ok(self.attach(negotiation, &welcome))
    }

    /// Attaches a channel to the link after its handshake. Returns `None` if the link has ended.
    pub(super) fn attach(&self, negotiation: Negotiation, welcome: &Welcome) -> Option<Driver> {
        let rtt = negotiation.rtt();
        let (socket, read_ahead, codec) = negotiation.into_parts();
        let id = welcome.channel;
        let registration = socket.addresses().ok().and_then(|(_, addr)| {
            let observer = self.observer.as_ref();
            let shown = observer.map(|observer| observer.channel_opened(id, addr, ChannelFormat::Binary));
            ServedChannel::open(self.stats.as_ref(), shown, id, addr)
        });
        let stats = registration.as_ref().map(|channel| channel.stats().clone());
        let channel = NewChannel { id, socket, rtt, read_ahead, codec, text: None, stats, registration };
        Driver::attach(&self.link, channel)
    }

    /// Returns whether the link cannot be resumed any more: the server has restarted, or its grace period is over.
    fn is_link_unknown(&self, error: &ServerLinkError) -> bool {
        // A channel on which the server does not answer may be left from before its restart.
        error.is_unknown_link() && !self.link.has_responsive_channel()
    }
}

/// Waits until `value` is `wanted`; forever if its sender is dropped before.
async fn wait_until(value: &mut watch::Receiver<bool>, wanted: bool) {
    if value.wait_for(|&value| value == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
