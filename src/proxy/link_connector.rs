//! Establishes a link to a server: first channel, handshake, registration of the services.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::time::timeout;

use super::{
    channel_dialer::{ChannelDialer, STEP_TIMEOUT, connect_to_server},
    channel_keepers::ChannelKeepers,
    channel_supervisor::ChannelSupervisor,
    channel_target::ChannelTarget,
    error::{RefusedServices, ServerLinkError},
    link_events::ServerLinkEvents,
    link_services::LinkServices,
    loop_detector::ServerPath,
    observer::ObservedLink,
    registrar::Registrar,
    registrations::{AssignedPorts, Progress, Registrations},
    server_link::{GoAwayState, ServerLink},
    serving_board::ServingBoard,
    shared_parts::SharedParts,
};
use crate::{
    config::{ProxyConfig, ProxyFormat, ServerEndpoint},
    link::{Driver, Link, NewChannel},
    mux::{MuxConfig, Role},
    net::{ChannelSocket, Negotiation},
    runtime::Tasks,
    telemetry::{ChannelFormat, DisconnectReason, ServedChannel},
    wire::{
        ResetCode, TunnelAction, TunnelMessage, Welcome,
        text::{self, FieldCount},
    },
};

/// Establishes links to one server.
#[derive(Debug, Clone)]
pub(super) struct LinkConnector {
    /// What all links of the proxy have in common.
    shared: SharedParts,
    /// The number of the server.
    server: usize,
    /// The configured address of the server, and how it is verified.
    endpoint: Arc<ArcSwap<ServerEndpoint>>,
    /// Where the services that the server serves are published.
    board: ServingBoard,
    /// The public ports that the server has assigned.
    assigned: Arc<AssignedPorts>,
}

impl LinkConnector {
    /// Creates the connector of server number `server`, to which there was no link yet.
    pub(super) fn new(
        shared: SharedParts,
        server: usize,
        endpoint: Arc<ArcSwap<ServerEndpoint>>,
        board: ServingBoard,
    ) -> Self {
        Self { shared, server, endpoint, board, assigned: Arc::default() }
    }

    /// Returns the configuration of the proxy.
    pub(super) fn config(&self) -> &Arc<ProxyConfig> {
        &self.shared.config
    }

    /// Forgets the ports of a server that is not served any more.
    pub(super) fn forget_server(&self) {
        self.shared.loops.remove_server(self.server);
    }

    /// Returns the tasks of the proxy.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Returns where the services that the server serves are published.
    pub(super) fn board(&self) -> &ServingBoard {
        &self.board
    }

    /// Connects to `server`, runs the handshake and registers the services; `replaced` is the id of the link that the
    /// new one replaces at the server's request. Returns the link as soon as the server serves one of them. Dropping
    /// the future closes it.
    pub(super) async fn connect(
        &self,
        server: &ServerEndpoint,
        replaced: Option<[u8; 16]>,
    ) -> Result<ServerLink, ServerLinkError> {
        let OpenLink { link, id, grace, services, go_away } = match self.shared.config.format {
            ProxyFormat::Binary => self.open_binary(&server.address, replaced).await?,
            ProxyFormat::Text => self.open_text(server).await?,
        };
        let unregistered = UnregisteredLink(Some(link.clone()));
        let registrar = Registrar {
            link: link.clone(),
            services: services.clone(),
            go_away: go_away.clone(),
            board: self.board.clone(),
            server: self.server,
            shared: self.shared.clone(),
        };
        self.shared.tasks.spawn("registration", registrar.run());
        let progress = tokio::select! {
            // Polled in this order: a server that refuses the registration sends the reason and closes at once, and
            // the reason is more precise than the loss of the link.
            biased;
            progress = timeout(STEP_TIMEOUT, services.wait_for_progress()) => progress,
            () = link.wait_ended() => {
                unregistered.keep();
                return Err(ServerLinkError::Lost);
            }
        };
        unregistered.keep();
        match progress {
            Ok(Progress::AllRefused(refused)) => {
                link.close(&DisconnectReason::GoAway);
                Err(ServerLinkError::Registration(RefusedServices(refused)))
            }
            Ok(Progress::Serving | Progress::Waiting) => {
                // From now on there is something to resume.
                link.set_resume_grace(grace);
                if let Some(stats) = &self.shared.streams.stats {
                    stats.link_registered();
                }
                Ok(ServerLink::new(link, id, go_away, services))
            }
            Err(_) => {
                link.close(&DisconnectReason::KeepaliveTimeout);
                Err(ServerLinkError::Timeout(STEP_TIMEOUT))
            }
        }
    }

    /// Creates the receiver of the events of a link, with its services, of which none is registered yet. `features` are
    /// those in force.
    fn events(&self, features: u32, socket: &ChannelSocket) -> (Arc<ServerLinkEvents>, Option<ObservedLink>) {
        let shared = &self.shared;
        let observed = shared.observer.as_ref().zip(socket.addresses().ok());
        let observed = observed.map(|(observer, (_, addr))| observer.link_opened(self.board.server(), addr));
        if let Ok((local, server)) = socket.addresses() {
            shared.loops.set_path(self.server, ServerPath { local: local.ip(), server: server.ip() });
        }
        let is_text = shared.config.format == ProxyFormat::Text;
        let list = shared.lists.borrow().clone();
        let registrations =
            Registrations::new(shared.config.clone(), list, features, is_text, self.assigned.clone());
        let events = Arc::new(ServerLinkEvents {
            go_away: Arc::default(),
            shared: shared.clone(),
            services: Arc::new(LinkServices::new(registrations)),
            server: self.server,
            board: self.board.clone(),
            channels: Arc::new(ChannelTarget::new(shared.config.channels, socket.handshake_rtt())),
            observer: observed.as_ref().map(ObservedLink::observer),
        });
        (events, observed)
    }

    /// Shows operators the link until it has ended.
    fn show(&self, link: &Arc<Link>, observed: Option<ObservedLink>) {
        let Some(observed) = observed else { return };
        let (link, tasks) = (link.clone(), self.shared.tasks.clone());
        self.shared.tasks.spawn("observer of a link", async move {
            tokio::select! {
                () = link.wait_ended() => observed.end(link.last_end_reason()),
                () = tasks.stopped() => observed.end(DisconnectReason::Shutdown),
            }
        });
    }

    /// Establishes a link of the binary format, and starts one task for each configured channel.
    async fn open_binary(
        &self,
        address: &str,
        replaced: Option<[u8; 16]>,
    ) -> Result<OpenLink, ServerLinkError> {
        let SharedParts { config, token, connector, tasks, memory, .. } = &self.shared;
        let dialer = ChannelDialer {
            config: config.clone(),
            address: address.to_owned(),
            endpoint: self.endpoint.clone(),
            token: token.clone(),
            connector: connector.clone(),
        };
        let (negotiation, welcome): (Negotiation, Welcome) = dialer.open_link(replaced).await?;
        let (events, observed) = self.events(welcome.features, negotiation.socket());
        let observer = events.observer.clone();
        let mux = MuxConfig {
            initial_window: welcome.first_window,
            budget: memory.clone(),
            max_streams: welcome.max_streams as usize,
            chunk_size: config.max_chunk,
            allow_striping: config.stripe,
            max_auto_channels: config.channels.max_auto(),
            ..MuxConfig::default()
        };
        let (services, go_away, target) =
            (events.services.clone(), events.go_away.clone(), events.channels.clone());
        let link = Link::new(Role::Proxy, mux, None, events);
        self.show(&link, observed);
        let supervisor = Arc::new(
            ChannelSupervisor::new(
                dialer,
                link.clone(),
                target.clone(),
                go_away.clone(),
                self.board.clone(),
                &welcome,
            )
            .counting(self.shared.streams.stats.clone(), observer),
        );
        // Attached before the other tasks start, so that they find a channel and join instead of resuming.
        let first = supervisor.attach(negotiation, &welcome);
        let mut keepers = ChannelKeepers::new(supervisor, target, tasks.clone());
        keepers.spawn_missing(first);
        tasks.spawn("channels", keepers.run());
        let grace = Duration::from_millis(welcome.grace_ms.into());
        Ok(OpenLink { link, id: Some(welcome.link), grace, services, go_away })
    }

    /// Establishes a link of the text format, which has one channel: sends AUTH and the registration, which have to be
    /// the first lines, and starts the channel's task.
    async fn open_text(&self, server: &ServerEndpoint) -> Result<OpenLink, ServerLinkError> {
        let SharedParts { config, token, connector, tasks, memory, .. } = &self.shared;
        let mut negotiation = connect_to_server(connector, config, server).await?;
        let (events, observed) = self.events(0, negotiation.socket());
        let observer = events.observer.clone();
        let (services, go_away) = (events.services.clone(), events.go_away.clone());
        let token = TunnelMessage::control(TunnelAction::Auth, token.reveal().to_owned());
        let mut lines = BytesMut::new();
        for message in [Some(token), services.next_request(Instant::now())].into_iter().flatten() {
            text::encode_line(&message, FieldCount::Four, &mut lines);
        }
        negotiation.send_bytes(lines.freeze()).await?;
        // The text format has no flow control: data counts as received once it is sent, and the window only bounds
        // the data that waits here to be sent.
        let mux = MuxConfig { budget: memory.clone(), ..MuxConfig::default() };
        let link = Link::new(Role::Proxy, mux, Some(FieldCount::Four), events);
        self.show(&link, observed);
        let (socket, read_ahead, codec) = negotiation.into_parts();
        let text = Some(FieldCount::Four);
        let registration = observer.zip(socket.addresses().ok()).and_then(|(observer, (_, addr))| {
            ServedChannel::open(None, Some(observer.channel_opened(1, addr, ChannelFormat::Text)), 1, addr)
        });
        let stats = registration.as_ref().map(|channel| channel.stats().clone());
        let channel = NewChannel { id: 1, socket, rtt: None, read_ahead, codec, text, stats, registration };
        // Attached before the registration starts, which needs a channel.
        if let Some(driver) = Driver::attach(&link, channel) {
            let (owned, stopping) = (link.clone(), tasks.clone());
            let label = self.board.label();
            tasks.spawn("text channel", async move {
                let mut channel = std::pin::pin!(driver.run());
                tokio::select! {
                    reason = &mut channel => tracing::info!(server = label, "channel to the server lost: {reason}"),
                    () = stopping.stopped() => owned.send_go_away(ResetCode::Shutdown),
                }
            });
        }
        Ok(OpenLink { link, id: None, grace: Duration::ZERO, services, go_away })
    }
}

/// A link that is closed unless it is [kept](Self::keep), because its registration is not waited for any more: its
/// tasks would go on without an owner.
struct UnregisteredLink(Option<Arc<Link>>);

impl UnregisteredLink {
    /// Leaves the link to its owner.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for UnregisteredLink {
    fn drop(&mut self) {
        self.0.take().inspect(|link| link.close(&DisconnectReason::GoAway));
    }
}

/// A link whose handshake is complete, and on which nothing is registered yet.
struct OpenLink {
    /// The link.
    link: Arc<Link>,
    /// The id by which the server knows it; `None` in the text format, which has none.
    id: Option<[u8; 16]>,
    /// How long the server keeps the link for a resumption.
    grace: Duration,
    /// The services of the link.
    services: Arc<LinkServices>,
    /// Whether the server leaves.
    go_away: Arc<GoAwayState>,
}
