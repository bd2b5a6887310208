use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use super::{SessionError, backoff::Backoff, dial};
use crate::{
    config::{ProxyConfig, ProxyFormat},
    ids::{ServiceKey, StreamKey, clean},
    mux::{MuxConfig, Role},
    telemetry::GoneReason,
    transport::{ChannelSocket, Drive, Greeting, Link, LinkEvents, Stream, Tasks, tune},
    wire::{
        AddProxy, Frame, Hello, HelloMode, OpenFrame, ResetCode, TunnelAction, TunnelMessage, Welcome,
        binary,
        handshake::{ClientHandshake, Token, VERSION},
        text::{self, Fields},
    },
};

/// How long the server may take for each step: the connection, the handshake, the registration.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every session of a proxy has in common.
#[derive(Debug)]
pub(super) struct Session<'a> {
    config: &'a Arc<ProxyConfig>,
    token: &'a Token,
    tasks: &'a Tasks,
}

/// A session that serves.
#[derive(Debug)]
pub(super) struct Serving {
    link: Arc<Link>,
}

impl Serving {
    /// Ready once the last channel is lost.
    pub(super) async fn serve(self) {
        self.link.closed().await;
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(config: &'a Arc<ProxyConfig>, token: &'a Token, tasks: &'a Tasks) -> Self {
        Self { config, token, tasks }
    }

    /// Connects, proves, registers; the service that the server gave.
    pub(super) async fn open(&self, service: &ServiceKey) -> Result<(Serving, ServiceKey), SessionError> {
        let target_port = self.config.target.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let request = TunnelAction::AddProxy(AddProxy {
            service: service.clone(),
            target_port,
            weight: self.config.weight,
        });
        let request = TunnelMessage::control(request, "");
        let (answer, answered) = oneshot::channel();
        let events = Arc::new(Events {
            config: self.config.clone(),
            tasks: self.tasks.clone(),
            answer: Mutex::new(Some(answer)),
        });
        let link = match self.config.format {
            ProxyFormat::Binary => self.open_binary(request, events).await?,
            ProxyFormat::Text => self.open_text(request, events).await?,
        };
        let given = tokio::select! {
            // A server that refuses says why and closes at once: what it said counts, not that it closed.
            biased;
            answer = timeout(PATIENCE, answered) => answer.map_err(|_| SessionError::Timeout),
            () = link.closed() => Err(SessionError::Lost),
        };
        match given {
            Ok(Ok(Ok(given))) => Ok((Serving { link }, given)),
            Ok(Ok(Err(reason))) => {
                link.close(&GoneReason::Left);
                Err(SessionError::Registration(reason))
            }
            // The link, and with it who would have answered, is gone.
            Ok(Err(_)) => Err(SessionError::Lost),
            Err(error) => {
                link.close(&GoneReason::Silent);
                Err(error)
            }
        }
    }

    async fn open_binary(
        &self,
        request: TunnelMessage,
        events: Arc<Events>,
    ) -> Result<Arc<Link>, SessionError> {
        let dialler = Dialler { config: self.config.clone(), token: self.token.clone() };
        let (mut greeting, welcome) = dialler.channel(None).await?;
        greeting.send(&Frame::Message(request)).await?;
        let config = MuxConfig {
            window: welcome.first_window,
            max_streams: welcome.max_streams as usize,
            ..MuxConfig::default()
        };
        let link = Link::new(Role::Acceptor, config, None, events);
        let join = Join { link: welcome.link, secret: welcome.resume_secret.unwrap_or_default() };
        let mut first = Some((greeting, welcome));
        for number in 1..=self.config.channels {
            let (link, tasks, first, dialler) =
                (link.clone(), self.tasks.clone(), first.take(), dialler.clone());
            // The first one's connection was made here, which is the first worker.
            self.tasks.spawn_on(usize::from(number) - 1, format!("channel {number}"), async move {
                // Pinned, so that the channel is still there to say goodbye on: a branch that lost is dropped before
                // the one that won is carried out.
                let mut channel = std::pin::pin!(dialler.keep_channel(&link, first, join));
                tokio::select! {
                    // First: else a channel might be made anew while the proxy ends.
                    biased;
                    () = tasks.stopped() => link.go_away(ResetCode::Shutdown),
                    () = &mut channel => {}
                }
            });
        }
        Ok(link)
    }

    async fn open_text(
        &self,
        request: TunnelMessage,
        events: Arc<Events>,
    ) -> Result<Arc<Link>, SessionError> {
        let mut greeting = Greeting::new(ChannelSocket::plain(connect(&self.config.server).await?));
        let token = TunnelMessage::control(TunnelAction::Auth, self.token.reveal().to_owned());
        let mut lines = BytesMut::new();
        for message in [token, request] {
            text::encode_line(&message, Fields::Four, &mut lines);
        }
        greeting.send_bytes(lines.freeze()).await?;
        // What a text peer is sent counts as received at once, so the window only bounds what waits here.
        let config = MuxConfig::default();
        let link = Link::new(Role::Acceptor, config, Some(Fields::Four), events);
        let (owned, tasks) = (link.clone(), self.tasks.clone());
        let (socket, read_ahead) = greeting.into_parts();
        self.tasks.spawn("text channel", async move {
            let drive = Drive { id: 1, socket, read_ahead, text: Some(Fields::Four), stats: None };
            let mut channel = std::pin::pin!(owned.drive(drive));
            tokio::select! {
                reason = &mut channel => tracing::info!("the channel was lost: {reason}"),
                () = tasks.stopped() => owned.go_away(ResetCode::Shutdown),
            }
        });
        Ok(link)
    }
}

/// What a channel shows to join its link.
#[derive(Clone, Copy)]
struct Join {
    link: [u8; 16],
    secret: [u8; 32],
}

/// Makes channels.
#[derive(Clone)]
struct Dialler {
    config: Arc<ProxyConfig>,
    token: Token,
}

impl Dialler {
    /// Connects and proves: a new link, or one more channel for one.
    async fn channel(&self, join: Option<Join>) -> Result<(Greeting, Welcome), SessionError> {
        let hello = Hello {
            version: VERSION,
            mode: if join.is_some() { HelloMode::Join } else { HelloMode::New },
            max_frame: u32::try_from(binary::MAX_FRAME).unwrap_or(u32::MAX),
            features: 0,
            nonce: rand::random(),
            link: join.map_or([0; 16], |join| join.link),
            epoch: 0,
            name: self.config.name.clone(),
        };
        let (mut client, hello) = ClientHandshake::start(self.token.clone(), hello);
        if let Some(join) = join {
            client = client.with_secret(join.secret);
        }
        let mut greeting = Greeting::new(ChannelSocket::plain(connect(&self.config.server).await?));
        let welcome =
            timeout(PATIENCE, greeting.greet(client, hello)).await.map_err(|_| SessionError::Timeout)??;
        Ok((greeting, welcome))
    }

    /// Keeps one channel of a link up until the link is over.
    async fn keep_channel(&self, link: &Arc<Link>, first: Option<(Greeting, Welcome)>, join: Join) {
        let mut backoff = Backoff::new(self.config.backoff);
        let mut next = first;
        while !link.is_closed() {
            let made = match next.take() {
                Some(made) => Ok(made),
                None => self.channel(Some(join)).await,
            };
            match made {
                Ok((greeting, welcome)) => {
                    backoff.reset();
                    let (socket, read_ahead) = greeting.into_parts();
                    let drive = Drive { id: welcome.channel, socket, read_ahead, text: None, stats: None };
                    let reason = link.drive(drive).await;
                    tracing::info!("channel {} was lost: {reason}", welcome.channel);
                }
                Err(error) => tracing::debug!("cannot add a channel: {error}"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = link.closed() => {}
            }
        }
    }
}

async fn connect(server: &str) -> Result<TcpStream, SessionError> {
    let connected = timeout(PATIENCE, TcpStream::connect(server)).await.map_err(|_| SessionError::Timeout)?;
    let socket = connected.map_err(SessionError::Connect)?;
    tune(&socket);
    Ok(socket)
}

/// What a proxy does with what its link tells it.
struct Events {
    config: Arc<ProxyConfig>,
    tasks: Tasks,
    answer: Mutex<Option<oneshot::Sender<Result<ServiceKey, String>>>>,
}

impl LinkEvents for Events {
    fn opened(&self, stream: Stream, open: OpenFrame) {
        let served = dial::serve(self.config.clone(), self.tasks.clone(), stream, open);
        self.tasks.spawn("stream", served);
    }

    fn message(&self, _link: &Arc<Link>, _channel: u16, message: TunnelMessage) {
        let text = clean(&String::from_utf8_lossy(&message.data), 200);
        let answer = match message.action {
            TunnelAction::Response => {
                text.parse().map_err(|_| format!("the server gave no port but «{text}»"))
            }
            TunnelAction::Error => Err(text),
            TunnelAction::Exit => return tracing::info!("the server leaves: {text}"),
            _ => return,
        };
        match (self.answer.lock().take(), answer) {
            // Who waited for it may have given up.
            (Some(waiting), answer) => _ = waiting.send(answer),
            (None, Err(reason)) => tracing::warn!("the server reports an error: {reason}"),
            (None, Ok(_)) => {}
        }
    }

    fn go_away(&self, code: ResetCode) {
        tracing::info!("the server takes no new users: {code}");
    }

    fn no_session(&self, _channel: u16, key: StreamKey) {
        tracing::debug!("the server sent bytes for stream {key}, which is not there");
    }
}
