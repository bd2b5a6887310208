use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::{RwLock, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ServerLinkError, backoff::Backoff, target};
use crate::{
    config::{ProxyConfig, ProxyFormat},
    ids::{ServiceKey, StreamKey, clean},
    link::{Driver, Link, LinkEvents, NewChannel, Stream},
    mux::{MuxConfig, Role},
    net::{ChannelSocket, Negotiation, NegotiationError, connect},
    runtime::Tasks,
    telemetry::{DisconnectReason, seconds},
    wire::{
        AddProxy, Frame, Hello, HelloMode, Open, ResetCode, TunnelAction, TunnelMessage, Welcome,
        binary::{CHECKSUMS, VERSION},
        handshake::{ClientHandshake, Token},
        text::{self, FieldCount},
    },
};

/// How long the server may take for each step: the connection, the handshake, the registration.
const PATIENCE: Duration = Duration::from_secs(10);

/// A channel that was up for so long was no failed attempt.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// What every session of a proxy has in common.
#[derive(Debug)]
pub(super) struct LinkConnector<'a> {
    config: &'a Arc<ProxyConfig>,
    token: &'a Token,
    tasks: &'a Tasks,
    streams: &'a TaskTracker,
}

/// A session that serves.
#[derive(Debug)]
pub(super) struct ServerLink {
    link: Arc<Link>,
    sent_away: Arc<GoAwayState>,
}

/// Whether the server takes no new users, and where it said to go.
#[derive(Debug, Default)]
struct GoAwayState {
    now: CancellationToken,
    successor: Mutex<Option<String>>,
}

/// What a session that served has come to.
#[derive(Debug)]
pub(super) enum ServeOutcome {
    /// The link is over: every channel was lost, and none could be made in time.
    Lost,
    /// The server takes no new users. What is open goes on.
    GoAway {
        /// Where it said to go.
        successor: Option<String>,
    },
}

impl ServerLink {
    /// Ready once the session gets no more users.
    pub(super) async fn serve(&self) -> ServeOutcome {
        tokio::select! {
            // A server without streams is gone by the time that its goodbye is heard, which says more.
            biased;
            () = self.sent_away.now.cancelled() => {
                ServeOutcome::GoAway { successor: self.sent_away.successor.lock().take() }
            }
            () = self.link.run_until_ended() => ServeOutcome::Lost,
        }
    }

    /// Carries what is open to its end.
    pub(super) async fn finish(&self) {
        self.link.run_until_ended().await;
    }

    /// Tells the server to send no new users: they find us elsewhere, or not at all. What it still gives is carried.
    pub(super) fn go_away(&self) {
        self.link.send_go_away(ResetCode::Shutdown);
    }
}

impl<'a> LinkConnector<'a> {
    pub(super) fn new(
        config: &'a Arc<ProxyConfig>,
        token: &'a Token,
        tasks: &'a Tasks,
        streams: &'a TaskTracker,
    ) -> Self {
        Self { config, token, tasks, streams }
    }

    /// Connects to `server`, proves, registers; the service that the server gave.
    pub(super) async fn open(
        &self,
        server: &str,
        service: &ServiceKey,
    ) -> Result<(ServerLink, ServiceKey), ServerLinkError> {
        let target_port = self.config.target.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let request = TunnelAction::AddProxy(AddProxy {
            service: service.clone(),
            target_port,
            weight: self.config.weight,
        });
        let request = TunnelMessage::control(request, "");
        let (answer, answered) = oneshot::channel();
        let sent_away = Arc::<GoAwayState>::default();
        let events = Arc::new(ServerLinkEvents {
            sent_away: sent_away.clone(),
            config: self.config.clone(),
            tasks: self.tasks.clone(),
            streams: self.streams.clone(),
            answer: Mutex::new(Some(answer)),
        });
        let (link, grace) = match self.config.format {
            ProxyFormat::Binary => self.open_binary(server, request, events).await?,
            ProxyFormat::Text => (self.open_text(server, request, events).await?, Duration::ZERO),
        };
        let given = tokio::select! {
            // A server that refuses says why and closes at once: what it said counts, not that it closed.
            biased;
            answer = timeout(PATIENCE, answered) => answer.map_err(|_| ServerLinkError::Timeout),
            () = link.wait_ended() => Err(ServerLinkError::Lost),
        };
        match given {
            Ok(Ok(Ok(given))) => {
                // From now on there is something to come back to.
                link.set_resume_grace(grace);
                Ok((ServerLink { link, sent_away }, given))
            }
            Ok(Ok(Err(reason))) => {
                link.close(&DisconnectReason::GoAway);
                Err(ServerLinkError::Registration(reason))
            }
            // The link, and with it who would have answered, is gone.
            Ok(Err(_)) => Err(ServerLinkError::Lost),
            Err(error) => {
                link.close(&DisconnectReason::KeepaliveTimeout);
                Err(error)
            }
        }
    }

    /// The link, and how long the server waits for it when it has no channel.
    async fn open_binary(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
    ) -> Result<(Arc<Link>, Duration), ServerLinkError> {
        let (config, token) = (self.config.clone(), self.token.clone());
        let dialer = ChannelDialer { config, server: server.to_owned(), token };
        let (mut negotiation, welcome) = dialer.channel(None).await?;
        negotiation.send_frame(&Frame::Message(request)).await?;
        let config = MuxConfig {
            initial_window: welcome.first_window,
            max_streams: welcome.max_streams as usize,
            chunk_size: self.config.max_chunk,
            allow_striping: self.config.stripe,
            ..MuxConfig::default()
        };
        let grace = Duration::from_millis(welcome.grace_ms.into());
        let sent_away = events.sent_away.clone();
        let supervisor = ChannelSupervisor {
            dialer,
            link: Link::new(Role::Proxy, config, None, events),
            sent_away,
            ticket: Mutex::new(ResumptionTicket::from(&welcome)),
            coming_back: RwLock::default(),
        };
        let (link, supervisor) = (supervisor.link.clone(), Arc::new(supervisor));
        // Before the others look whether there is a channel.
        let mut first = supervisor.attach(negotiation, &welcome);
        for number in 1..=self.config.channels {
            let (supervisor, tasks, first) = (supervisor.clone(), self.tasks.clone(), first.take());
            // The first one's connection was made here, which is the first worker.
            self.tasks.spawn_on(usize::from(number) - 1, format!("channel {number}"), async move {
                // Pinned, so that the channel is still there to say goodbye on: a branch that lost is dropped before
                // the one that won is carried out.
                let mut channel = std::pin::pin!(supervisor.keep_channel(first));
                tokio::select! {
                    // First: else a channel might be made anew while the proxy ends.
                    biased;
                    () = tasks.stopped() => supervisor.link.send_go_away(ResetCode::Shutdown),
                    () = &mut channel => {}
                }
            });
        }
        Ok((link, grace))
    }

    async fn open_text(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
    ) -> Result<Arc<Link>, ServerLinkError> {
        let mut negotiation = Negotiation::new(ChannelSocket::plain(reach(server).await?));
        let token = TunnelMessage::control(TunnelAction::Auth, self.token.reveal().to_owned());
        let mut lines = BytesMut::new();
        for message in [token, request] {
            text::encode_line(&message, FieldCount::Four, &mut lines);
        }
        negotiation.send_bytes(lines.freeze()).await?;
        // What a text peer is sent counts as received at once, so the window only bounds what waits here.
        let config = MuxConfig::default();
        let link = Link::new(Role::Proxy, config, Some(FieldCount::Four), events);
        let (owned, tasks) = (link.clone(), self.tasks.clone());
        let (socket, read_ahead, codec) = negotiation.into_parts();
        self.tasks.spawn("text channel", async move {
            let channel =
                NewChannel { id: 1, socket, read_ahead, codec, text: Some(FieldCount::Four), stats: None };
            let mut channel = std::pin::pin!(Driver::attach_and_run(&owned, channel));
            tokio::select! {
                reason = &mut channel => tracing::info!("the channel was lost: {reason}"),
                () = tasks.stopped() => owned.send_go_away(ResetCode::Shutdown),
            }
        });
        Ok(link)
    }
}

/// What a channel shows to join its link, or to come back to it.
#[derive(Clone, Copy)]
struct ResumptionTicket {
    link: [u8; 16],
    epoch: u32,
    secret: [u8; 32],
}

impl From<&Welcome> for ResumptionTicket {
    fn from(welcome: &Welcome) -> Self {
        let secret = welcome.resume_secret.unwrap_or_default();
        Self { link: welcome.link, epoch: welcome.epoch, secret }
    }
}

/// Makes channels.
struct ChannelDialer {
    config: Arc<ProxyConfig>,
    server: String,
    token: Token,
}

impl ChannelDialer {
    /// Connects and proves: a new link, or one more channel for one.
    async fn channel(
        &self,
        known: Option<(HelloMode, ResumptionTicket)>,
    ) -> Result<(Negotiation, Welcome), ServerLinkError> {
        let hello = Hello {
            version: VERSION,
            mode: known.map_or(HelloMode::New, |(mode, _)| mode),
            features: CHECKSUMS,
            nonce: rand::random(),
            link: known.map_or([0; 16], |(_, ticket)| ticket.link),
            epoch: known.map_or(0, |(_, ticket)| ticket.epoch),
            name: self.config.name.clone(),
        };
        let (mut client, hello) = ClientHandshake::start(self.token.clone(), hello);
        if let Some((_, ticket)) = known {
            client = client.with_secret(ticket.secret);
        }
        let mut negotiation = Negotiation::new(ChannelSocket::plain(reach(&self.server).await?));
        let welcome = timeout(PATIENCE, negotiation.run_client(client, hello))
            .await
            .map_err(|_| ServerLinkError::Timeout)??;
        Ok((negotiation, welcome))
    }
}

/// Keeps the channels of one link up.
struct ChannelSupervisor {
    dialer: ChannelDialer,
    link: Arc<Link>,
    sent_away: Arc<GoAwayState>,
    ticket: Mutex<ResumptionTicket>,
    /// Who comes back to a link without channels is alone: the server takes off all that were there before, and gives
    /// another ticket, which those that join afterwards show.
    coming_back: RwLock<()>,
}

impl ChannelSupervisor {
    /// Keeps one channel up until the link is over, or the server takes no other.
    async fn keep_channel(&self, first: Option<Driver>) {
        let mut backoff = Backoff::new((self.dialer.config.min_backoff, self.dialer.config.max_backoff));
        let mut next = match first {
            Some(first) => Ok(Some(first)),
            None => self.dial().await,
        };
        while !self.link.has_ended() {
            match next {
                Ok(Some(channel)) => {
                    let begin = Instant::now();
                    let reason = channel.run().await;
                    tracing::info!("a channel was lost: {reason}");
                    if self.sent_away.now.is_cancelled() {
                        return;
                    }
                    // One that has carried for a while is made anew at once: its streams may be waited for.
                    if begin.elapsed() >= SETTLED {
                        backoff.reset();
                        next = self.dial().await;
                        continue;
                    }
                }
                // The link was closed meanwhile.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("cannot add a channel: {error}");
                    if self.is_forgotten(&error) {
                        return self.link.close(&DisconnectReason::Closed);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = self.link.wait_ended() => return,
                () = self.sent_away.now.cancelled() => return,
            }
            next = self.dial().await;
        }
    }

    /// Makes one more channel, or comes back to the link if it has none.
    async fn dial(&self) -> Result<Option<Driver>, ServerLinkError> {
        let joining = self.coming_back.read().await;
        if self.link.has_channel() {
            return self.channel(HelloMode::Join).await;
        }
        drop(joining);
        let _alone = self.coming_back.write().await;
        // Another may have been faster.
        let mode = if self.link.has_channel() { HelloMode::Join } else { HelloMode::Resume };
        self.channel(mode).await
    }

    async fn channel(&self, mode: HelloMode) -> Result<Option<Driver>, ServerLinkError> {
        let ticket = *self.ticket.lock();
        let (negotiation, welcome) = self.dialer.channel(Some((mode, ticket))).await?;
        if mode == HelloMode::Resume {
            *self.ticket.lock() = ResumptionTicket::from(&welcome);
        }
        Ok(self.attach(negotiation, &welcome))
    }

    fn attach(&self, negotiation: Negotiation, welcome: &Welcome) -> Option<Driver> {
        let (socket, read_ahead, codec) = negotiation.into_parts();
        let channel = NewChannel { id: welcome.channel, socket, read_ahead, codec, text: None, stats: None };
        Driver::attach(&self.link, channel)
    }

    /// Whether there is nothing left to come back to: the server is another one, or has waited for long enough.
    fn is_forgotten(&self, error: &ServerLinkError) -> bool {
        let unknown = matches!(error, ServerLinkError::Negotiation(NegotiationError::Refused(reason)) if reason.is_unknown_link());
        unknown && !self.link.has_channel()
    }
}

async fn reach(server: &str) -> Result<TcpStream, ServerLinkError> {
    let connected = timeout(PATIENCE, connect(server)).await.map_err(|_| ServerLinkError::Timeout)?;
    connected.map_err(ServerLinkError::Connect)
}

/// What a proxy does with what its link tells it.
struct ServerLinkEvents {
    sent_away: Arc<GoAwayState>,
    config: Arc<ProxyConfig>,
    tasks: Tasks,
    streams: TaskTracker,
    answer: Mutex<Option<oneshot::Sender<Result<ServiceKey, String>>>>,
}

impl ServerLinkEvents {
    fn sent_away(&self, why: &str) {
        // It is said on every channel.
        if !self.sent_away.now.is_cancelled() {
            tracing::info!("the server takes no new users: {why}");
            self.sent_away.now.cancel();
        }
    }
}

impl LinkEvents for ServerLinkEvents {
    fn stream_opened(&self, stream: Stream, open: Open) {
        let served = target::serve(self.config.clone(), self.tasks.clone(), stream, open);
        self.tasks.spawn("stream", self.streams.track_future(served));
    }

    fn message_received(&self, _link: &Arc<Link>, _channel: u16, message: TunnelMessage) {
        let text = clean(&String::from_utf8_lossy(&message.data), 200);
        let answer = match message.action {
            TunnelAction::Response => {
                text.parse().map_err(|_| format!("the server gave no port but «{text}»"))
            }
            TunnelAction::Error => Err(text),
            // A text server's goodbye.
            TunnelAction::Exit => {
                let code = ResetCode::from_text_reason(&message.data);
                return self.sent_away(&code.map_or(text, |code| code.to_string()));
            }
            TunnelAction::Successor => return *self.sent_away.successor.lock() = Some(text),
            _ => return,
        };
        match (self.answer.lock().take(), answer) {
            // Who waited for it may have given up.
            (Some(waiting), answer) => _ = waiting.send(answer),
            (None, Err(reason)) => tracing::warn!("the server reports an error: {reason}"),
            (None, Ok(_)) => {}
        }
    }

    fn go_away_received(&self, code: ResetCode) {
        self.sent_away(&code.to_string());
    }

    fn detached(&self, until: Instant) {
        let left = seconds(until.saturating_duration_since(Instant::now()));
        tracing::warn!("the last channel was lost; streams wait up to {left} for another");
    }

    fn resumed(&self, after: Duration) {
        tracing::info!("the streams go on, after {after:.1?} without a channel");
    }

    fn unknown_stream(&self, _channel: u16, key: StreamKey) {
        tracing::debug!("the server sent bytes for stream {key}, which is not there");
    }
}
