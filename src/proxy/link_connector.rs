//! Establishes a link to a server: first channel, handshake, registration.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    channel_dialer::{ChannelDialer, STEP_TIMEOUT, connect_to_server},
    channel_keepers::ChannelKeepers,
    channel_supervisor::ChannelSupervisor,
    channel_target::ChannelTarget,
    error::ServerLinkError,
    link_events::ServerLinkEvents,
    server_link::{GoAwayState, ServerLink},
};
use crate::{
    config::{ProxyConfig, ProxyFormat},
    ids::ServiceKey,
    link::{Driver, Link, NewChannel},
    mux::{MuxConfig, Role},
    net::{Connector, Negotiation},
    runtime::Tasks,
    telemetry::DisconnectReason,
    wire::{
        AddProxy, Frame, ResetCode, TunnelAction, TunnelMessage,
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
    /// Spawns the tasks of channels and streams.
    tasks: &'a Tasks,
    /// Tracks the open streams of all links, so that a drain can wait for them.
    streams: &'a TaskTracker,
}

impl<'a> LinkConnector<'a> {
    /// Creates a connector that has no link yet.
    pub(super) fn new(
        config: &'a Arc<ProxyConfig>,
        token: &'a Token,
        connector: &'a Arc<Connector>,
        tasks: &'a Tasks,
        streams: &'a TaskTracker,
    ) -> Self {
        Self { config, token, connector, tasks, streams }
    }

    /// Connects to `server`, runs the handshake and registers for `service`. Returns the link and the service that
    /// the server assigned, in which port 0 is replaced by a real one.
    pub(super) async fn connect(
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
        let (answer_sender, answer) = oneshot::channel();
        let go_away = Arc::<GoAwayState>::default();
        let events = Arc::new(ServerLinkEvents {
            go_away: go_away.clone(),
            config: self.config.clone(),
            connector: self.connector.clone(),
            tasks: self.tasks.clone(),
            streams: self.streams.clone(),
            channels: Arc::new(ChannelTarget::new(self.config.channels)),
            answer: Mutex::new(Some(answer_sender)),
        });
        let (link, grace) = match self.config.format {
            ProxyFormat::Binary => self.open_binary(server, request, events).await?,
            ProxyFormat::Text => (self.open_text(server, request, events).await?, Duration::ZERO),
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
                Ok((ServerLink::new(link, go_away), assigned))
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

    /// Establishes a link of the binary format, sends `request` on its first channel, and starts one task for each
    /// configured channel. Returns the link and the server's grace period.
    async fn open_binary(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
    ) -> Result<(Arc<Link>, Duration), ServerLinkError> {
        let (config, token) = (self.config.clone(), self.token.clone());
        let connector = self.connector.clone();
        let dialer = ChannelDialer { config, server: server.to_owned(), token, connector };
        let (mut negotiation, welcome) = dialer.open_link().await?;
        negotiation.send_frame(&Frame::Message(request)).await?;
        let config = MuxConfig {
            initial_window: welcome.first_window,
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
        Ok((link, Duration::from_millis(welcome.grace_ms.into())))
    }

    /// Establishes a link of the text format, which has one channel: sends AUTH and `request`, and starts the
    /// channel's task. Returns the link.
    async fn open_text(
        &self,
        server: &str,
        request: TunnelMessage,
        events: Arc<ServerLinkEvents>,
    ) -> Result<Arc<Link>, ServerLinkError> {
        let mut negotiation = Negotiation::new(connect_to_server(self.connector, self.config, server).await?);
        let token = TunnelMessage::control(TunnelAction::Auth, self.token.reveal().to_owned());
        let mut lines = BytesMut::new();
        for message in [token, request] {
            text::encode_line(&message, FieldCount::Four, &mut lines);
        }
        negotiation.send_bytes(lines.freeze()).await?;
        // The text format has no flow control: data counts as received once it is sent, and the window only bounds
        // the data that waits here to be sent.
        let config = MuxConfig::default();
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
        Ok(link)
    }
}
