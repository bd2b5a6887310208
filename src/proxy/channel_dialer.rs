//! Establishes one channel to the server: TCP connection and handshake.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::timeout;

use super::error::ServerLinkError;
use crate::{
    config::{ProxyConfig, ServerEndpoint},
    net::{ChannelSocket, Connector, Negotiation},
    wire::{
        Hello, HelloMode, Welcome,
        binary::{CHECKSUMS, PUBLIC_ADDRESS, SERVICES, USER_NETWORKS, VERSION},
        handshake::{ClientHandshake, Token},
    },
};

/// The timeout of each step of establishing a link after the TCP connection: handshake, registration. The handshake
/// takes two RTTs, and the kernel waits three more before it retransmits the first data of a connection: a path with an
/// RTT of 6 s, on which a packet of the handshake is lost, needs 30 s.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// The resumption ticket of a link: allows the proxy to add a channel to the link, or to resume it after the loss of
/// all channels. The server issues a new one with every resumption.
#[derive(Clone, Copy)]
pub(super) struct ResumptionTicket {
    /// The random id of the link that the ticket belongs to.
    link: [u8; 16],
    /// The number of the ticket within the link: increases by one with every resumption.
    epoch: u32,
    /// The secret that the handshake proves by HMAC.
    secret: [u8; 32],
}

impl From<&Welcome> for ResumptionTicket {
    fn from(welcome: &Welcome) -> Self {
        let secret = welcome.resume_secret.unwrap_or_default();
        Self { link: welcome.link, epoch: welcome.epoch, secret }
    }
}

/// Establishes channels of the binary format to one server.
pub(super) struct ChannelDialer {
    /// The configuration of the proxy: its display name is sent in the handshake.
    pub(super) config: Arc<ProxyConfig>,
    /// The address of the server of the link: the configured one, or its successor.
    pub(super) address: String,
    /// How the server is verified. Read for each channel, because a reload may replace it.
    pub(super) endpoint: Arc<ArcSwap<ServerEndpoint>>,
    /// The secret that proxy and server prove to each other by HMAC.
    pub(super) token: Token,
    /// Establishes the TCP connections.
    pub(super) connector: Arc<Connector>,
}

impl ChannelDialer {
    /// Connects to the server and runs the handshake for the first channel of a new link, which replaces the link with
    /// the id `replaced` if there is one. Returns the connection and the server's WELCOME.
    pub(super) async fn open_link(
        &self,
        replaced: Option<[u8; 16]>,
    ) -> Result<(Negotiation, Welcome), ServerLinkError> {
        self.dial(HelloMode::New, replaced.unwrap_or_default(), None).await
    }

    /// Connects to the server and runs the handshake for one more channel of the ticket's link, or to resume that
    /// link. Returns the connection and the server's WELCOME.
    pub(super) async fn add_channel(
        &self,
        mode: HelloMode,
        ticket: ResumptionTicket,
    ) -> Result<(Negotiation, Welcome), ServerLinkError> {
        self.dial(mode, ticket.link, Some(ticket)).await
    }

    /// Connects to the server and runs the handshake in the given mode, in which HELLO names `link`; `ticket` is `None`
    /// for a new link.
    async fn dial(
        &self,
        mode: HelloMode,
        link: [u8; 16],
        ticket: Option<ResumptionTicket>,
    ) -> Result<(Negotiation, Welcome), ServerLinkError> {
        let server =
            ServerEndpoint { address: self.address.clone(), ..ServerEndpoint::clone(&self.endpoint.load()) };
        let hello = Hello {
            version: VERSION,
            mode,
            // TLS detects corruption in transit.
            features: PUBLIC_ADDRESS
                | USER_NETWORKS
                | SERVICES
                | if server.tls.is_some() { 0 } else { CHECKSUMS },
            nonce: rand::random(),
            link,
            epoch: ticket.map_or(0, |ticket| ticket.epoch),
            name: self.config.name.clone(),
        };
        let (mut client, hello) = ClientHandshake::start(self.token.clone(), hello);
        if let Some(ticket) = ticket {
            client = client.with_secret(ticket.secret);
        }
        let mut negotiation = connect_to_server(&self.connector, &self.config, &server).await?;
        let client = client.with_exporter(negotiation.exporter());
        let handshake = timeout(STEP_TIMEOUT, negotiation.run_client(client, hello));
        let welcome = handshake.await.map_err(|_| ServerLinkError::Timeout(STEP_TIMEOUT))??;
        Ok((negotiation, welcome))
    }
}

/// Establishes a connection to `server` with the congestion control that `config` requests, and runs the TLS handshake
/// if the server is connected to with TLS.
pub(super) async fn connect_to_server(
    connector: &Connector,
    config: &ProxyConfig,
    server: &ServerEndpoint,
) -> Result<Negotiation, ServerLinkError> {
    let stream = connector.connect(&server.address, connector.server_policy()).await;
    let socket = ChannelSocket::plain(stream.map_err(ServerLinkError::Connect)?);
    if let Some(name) = config.congestion.requested_name(socket.is_loopback()) {
        socket.request_congestion_control(name);
    }
    let mut negotiation = Negotiation::new(socket);
    if let Some(tls) = &server.tls {
        let handshake = timeout(STEP_TIMEOUT, negotiation.connect_tls(tls, &server.address));
        handshake.await.map_err(|_| ServerLinkError::Timeout(STEP_TIMEOUT))??;
    }
    Ok(negotiation)
}
