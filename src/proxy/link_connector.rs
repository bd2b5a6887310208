//! Establishes a link to a server: first channel, handshake, registration.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::{
    channel_dialer::{ChannelDialer, STEP_TIMEOUT, connect_to_server},
    channel_keepers::ChannelKeepers,
    channel_supervisor::ChannelSupervisor,
    channel_target::ChannelTarget,
    error::ServerLinkError,
    link_events::ServerLinkEvents,
    loop_detector::{LoopDetector, ServerPath, target_port},
    open_streams::OpenStreams,
    server_link::{GoAwayState, ServerLink},
};
use crate::{
    config::{ProxyConfig, ProxyFormat},
    ids::ServiceKey,
    link::{Driver, Link, NewChannel},
    mux::{MemoryBudget, MuxConfig, Role},
    net::{ChannelSocket, ConnectPolicy, Connector},
    runtime::Tasks,
    telemetry::DisconnectReason,
    wire::{
        AddProxy, Frame, ResetCode, TunnelAction, TunnelMessage,
        binary::USER_NETWORKS,
        handshake::Token,
        text::{self, FieldCount},
    },
};

/// Establishes links to servers, with the settings that all links of one proxy have in common.
#[derive(Debug)]
pub(super) struct LinkConnector<'a> {
    /// The configuration of the proxy.
    config: &'a Arc<ProxyConfig>,
    /// The secret that proxy and server prove to each other.
    token: &'a Token,
    /// Establishes TCP connections to servers and to the target.
    connector: &'a Arc<Connector>,
    /// Compares the users of all streams with the connections to the target.
    loops: &'a Arc<LoopDetector>,
    /// Spawns the tasks of channels and streams.
    tasks: &'a Tasks,
    /// The open streams of all links.
    streams: &'a OpenStreams,
    /// The memory budget of the buffers of all streams.
    memory: &'a MemoryBudget,
}

impl<'a> LinkConnector<'a> {
    /// Creates a connector that has no link yet.
    pub(super) fn new(
        config: &'a Arc<ProxyConfig>,
        token: &'a Token,
        connector: &'a Arc<Connector>,
        loops: &'a Arc<LoopDetector>,
        tasks: &'a Tasks,
        streams: &'a OpenStreams,
        memory: &'a MemoryBudget,
    ) -> Self {
        Self { config, token, connector, loops, tasks, streams, memory }
    }

    /// Connects to `server`, runs the handshake and registers for `service`; `replaced` is the id of the link that the new one
    /// replaces at the server's request. Returns the link and the service that the server assigned, in which port 0 is replaced
    /// by a real one.
    pub(super) async fn connect(
        &self,
        server: &str,
        service: &ServiceKey,
        replaced: Option<[u8; 16]>,
    ) -> Result<(ServerLink, ServiceKey), ServerLinkError> {
        let request = TunnelAction::AddProxy(AddProxy {
            service: service.clone(),
            target_port: target_port(&self.config.target),
            weight: self.config.weight,
            has_networks: !self.config.user_networks.is_empty(),
        });
        let request = TunnelMessage::control(request, self.config.user_networks.to_string());
        let (answer_sender, answer) = oneshot::channel();
        let go_away = Arc::<GoAwayState>::default();
        let events = Arc::new(ServerLinkEvents {
            go_away: go_away.clone(),
            config: self.config.clone(),
            connector: self.connector.clone(),
            loops: self.loops.clone(),
            path: OnceLock::new(),
            tasks: self.tasks.clone(),
            streams: self.streams.clone(),
            channels: Arc::new(ChannelTarget::new(self.config.channels)),
            answer: Mutex::new(Some(answer_sender)),
        });
        let OpenLink { link, id, grace } = match self.config.format {
            ProxyFormat::Binary => self.open_binary(server, request, events.clone(), replaced).await?,
            ProxyFormat::Text => self.open_text(server, request, events.clone()).await?,
        };
        let answer = tokio::select! {
            // Polled in this order: a server that refuses the registration sends the reason and closes at once, and
            // the reason is more precise than the loss of the link.
            biased;
            answer = timeout(STEP_TIMEOUT, answer) => answer,
            () = link.wait_ended() => return Err(ServerLinkError::Lost),
        };
        match answer {
            Ok(Ok(Ok(assigned))) => {
                // From now on there is something to resume.
                link.set_resume_grace(grace);
                self.warn_if_target_may_be_public_port(events.path.get().copied(), &assigned);
                Ok((ServerLink::new(link, id, go_away), assigned))
            }
            Ok(Ok(Err(error))) => {
                link.close(&DisconnectReason::GoAway);
                Err(error)
            }
            // The link was dropped, and with it the sender of the answer.
            Ok(Err(_)) => Err(ServerLinkError::Lost),
            Err(_) => {
                link.close(&DisconnectReason::KeepaliveTimeout);
                Err(ServerLinkError::Timeout(STEP_TIMEOUT))
            }
        }
    }

    /// Starts a task that logs a warning if the target is probably the public port of `service`.
    ///
    /// The proxy serves nevertheless: the server may listen for its users on one address of its host, and the target on
    /// another. If it is a loop indeed, its first stream is refused ([`LoopDetector`]).
    fn warn_if_target_may_be_public_port(&self, path: Option<ServerPath>, service: &ServiceKey) {
        let Some(path) = path.filter(|_| target_port(&self.config.target) == Some(service.port)) else {
            return;
        };
        let (config, connector) = (self.config.clone(), self.connector.clone());
        let (tasks, service) = (self.tasks.clone(), service.clone());
        self.tasks.spawn("check of the target", async move {
            let policy = ConnectPolicy::for_target(config.dial_timeout);
            let addresses = tokio::select! {
                addresses = connector.resolve(&config.target, policy) => addresses.unwrap_or_default(),
                () = tasks.stopped() => return,
            };
            if addresses.iter().any(|address| path.may_lead_to_server(address.ip().to_canonical())) {
                tracing::warn!(
                    "the target {} seems to be the public port of service {service} itself: its streams will be refused \
                     if it leads back to this proxy; --to must name what the service forwards to",
                    config.target
                );
            }
        });
    }

    /// Establishes a link of the binary format, sends `request` on its first channel, and starts one task for each
    /// configured channel.
    async fn open_binary(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
        replaced: Option<[u8; 16]>,
    ) -> Result<OpenLink, ServerLinkError> {
        let (config, token) = (self.config.clone(), self.token.clone());
        let connector = self.connector.clone();
        let dialer = ChannelDialer { config, server: server.to_owned(), token, connector };
        let (mut negotiation, welcome) = dialer.open_link(replaced).await?;
        record_path(&events, negotiation.socket());
        if !self.config.user_networks.is_empty() && welcome.features & USER_NETWORKS == 0 {
            return Err(ServerLinkError::NetworksNotSupported);
        }
        negotiation.send_frame(&Frame::Message(request)).await?;
        let config = MuxConfig {
            initial_window: welcome.first_window,
            budget: self.memory.clone(),
            max_streams: welcome.max_streams as usize,
            chunk_size: self.config.max_chunk,
            allow_striping: self.config.stripe,
            max_auto_channels: self.config.channels.max_auto(),
            ..MuxConfig::default()
        };
        let (go_away, target) = (events.go_away.clone(), events.channels.clone());
        let link = Link::new(Role::Proxy, config, None, events);
        let supervisor =
            Arc::new(ChannelSupervisor::new(dialer, link.clone(), target.clone(), go_away, &welcome));
        // Attached before the other tasks start, so that they find a channel and join instead of resuming.
        let first = supervisor.attach(negotiation, &welcome);
        let mut keepers = ChannelKeepers::new(supervisor, target, self.tasks.clone());
        keepers.spawn_missing(first);
        self.tasks.spawn("channels", keepers.run());
        Ok(OpenLink { link, id: Some(welcome.link), grace: Duration::from_millis(welcome.grace_ms.into()) })
    }

    /// Establishes a link of the text format, which has one channel: sends AUTH and `request`, and starts the
    /// channel's task.
    async fn open_text(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
    ) -> Result<OpenLink, ServerLinkError> {
        let mut negotiation = connect_to_server(self.connector, self.config, server).await?;
        record_path(&events, negotiation.socket());
        let token = TunnelMessage::control(TunnelAction::Auth, self.token.reveal().to_owned());
        let mut lines = BytesMut::new();
        for message in [token, request] {
            text::encode_line(&message, FieldCount::Four, &mut lines);
        }
        negotiation.send_bytes(lines.freeze()).await?;
        // The text format has no flow control: data counts as received once it is sent, and the window only bounds
        // the data that waits here to be sent.
        let config = MuxConfig { budget: self.memory.clone(), ..MuxConfig::default() };
        let link = Link::new(Role::Proxy, config, Some(FieldCount::Four), events);
        let (owned, tasks) = (link.clone(), self.tasks.clone());
        let (socket, read_ahead, codec) = negotiation.into_parts();
        self.tasks.spawn("text channel", async move {
            let text = Some(FieldCount::Four);
            let channel = NewChannel { id: 1, socket, rtt: None, read_ahead, codec, text, stats: None };
            let mut channel = std::pin::pin!(Driver::attach_and_run(&owned, channel));
            tokio::select! {
                reason = &mut channel => tracing::info!("channel to the server lost: {reason}"),
                () = tasks.stopped() => owned.send_go_away(ResetCode::Shutdown),
            }
        });
        Ok(OpenLink { link, id: None, grace: Duration::ZERO })
    }
}

/// A link whose handshake is complete, and whose registration is not answered yet.
struct OpenLink {
    /// The link.
    link: Arc<Link>,
    /// The id by which the server knows it; `None` in the text format, which has none.
    id: Option<[u8; 16]>,
    /// How long the server keeps the link for a resumption.
    grace: Duration,
}

/// Stores the addresses of a link's first channel.
fn record_path(events: &ServerLinkEvents, socket: &ChannelSocket) {
    if let Ok((local, server)) = socket.addresses() {
        // Not set before: this is the link's first channel.
        _ = events.path.set(ServerPath { local: local.ip(), server: server.ip() });
    }
}
