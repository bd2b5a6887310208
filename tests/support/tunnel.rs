//! The whole tunnel in this process: a real server and real proxies over sockets on free loopback ports.

use std::{
    net::SocketAddr,
    panic,
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};
use underpass::{
    config::{
        ChannelCount, ProxyConfig, ProxyFormat, ServerConfig, ServerEndpoint, ServiceConfig, ServicesError,
    },
    control::{Command, CommandReply, CommandSender},
    ids::{ServiceKey, StreamKey},
    net::Connector,
    proxy::{Proxy, ProxyError, ServedService, ServiceChanges},
    runtime::Workers,
    server::{Credentials, Server, ShutdownReport, ShutdownSignals},
    telemetry::{EndReason, EventKind, Snapshot, StreamSnapshot, StreamStats, Telemetry},
    tls::{ClientTls, ServerTls},
    wire::handshake::Token,
};

use super::{relay::Relay, soon, target::LOOPBACK, within};

/// Both channel formats, for tests that apply to each.
pub const FORMATS: [ProxyFormat; 2] = [ProxyFormat::Binary, ProxyFormat::Text];

/// Interval of polling for conditions that have no notification.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Drain timeout of the server. When a test ends the tunnel, no stream is open, so that the drain takes no time.
const DRAIN: Duration = Duration::from_secs(5);

/// Returns the configuration with its only service changed.
pub fn with_only_service(mut config: ProxyConfig, change: impl FnOnce(&mut ServiceConfig)) -> ProxyConfig {
    change(&mut config.services[0]);
    config
}

/// A running server with its proxies. [`end`](Self::end) asserts that nothing is left.
pub struct Tunnel {
    pub addr: SocketAddr,
    pub token: Token,
    pub control: CommandSender,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: ShutdownSignals,
    /// TLS of the server, and of all proxies that are configured with [`proxy_config`](Self::proxy_config).
    pub tls: Option<ServerTls>,
    events: watch::Receiver<Vec<EventKind>>,
    server: JoinSet<ShutdownReport>,
    _collector: JoinSet<()>,
    proxies: Vec<RunningProxy>,
}

/// A proxy that runs until it is stopped.
pub struct RunningProxy {
    proxy: Arc<Proxy>,
    serving: watch::Receiver<Vec<ServedService>>,
    tasks: JoinSet<Result<(), ProxyError>>,
}

impl Tunnel {
    /// Starts a server with a user linger of 100 ms.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server with a modified configuration.
    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::bind(Self::config(change), Token::random()).await
    }

    /// Returns the configuration of a server, modified.
    pub fn config(change: impl FnOnce(&mut ServerConfig)) -> ServerConfig {
        let mut config = ServerConfig {
            listen: LOOPBACK,
            bind: LOOPBACK.ip(),
            drain_timeout: DRAIN,
            user_retention: Duration::from_millis(100),
            // All users of a test come from one address, and mostly to one service with one proxy.
            max_streams_per_address: Some(usize::MAX),
            max_streams_per_service: Some(usize::MAX),
            max_streams_per_proxy: Some(usize::MAX),
            max_channels_per_address: Some(usize::MAX),
            ..ServerConfig::default()
        };
        change(&mut config);
        config
    }

    /// Starts a server with TLS and a certificate of its own.
    pub async fn with_tls() -> Self {
        Self::with(|config| config.tls = Some(ServerTls::self_signed().unwrap())).await
    }

    /// Starts a server and a proxy for `target` whose two channels go through a relay. Returns the public address, too.
    pub async fn through_a_relay(
        change: impl FnOnce(&mut ServerConfig),
        target: SocketAddr,
    ) -> (Self, Relay, SocketAddr) {
        let mut tunnel = Self::with(change).await;
        let relay = Relay::to(tunnel.addr).await;
        let config = ProxyConfig {
            channels: ChannelCount::Fixed(2),
            ..tunnel.proxy_config(target).with_server(relay.addr.to_string())
        };
        let public = tunnel.proxy_with(config).await;
        assert_eq!(relay.len(), 2);
        (tunnel, relay, public)
    }

    /// Starts a server with this configuration, which can be that of a server that has ended.
    pub async fn bind(config: ServerConfig, token: Token) -> Self {
        Self::bind_with(config, token.clone(), token.into()).await
    }

    /// Starts a server with these credentials, of which `token` is one.
    pub async fn bind_with(config: ServerConfig, token: Token, credentials: Credentials) -> Self {
        record_panics();
        let (telemetry, tls) = (Telemetry::new(), config.tls.clone());
        let (events, collector) = collect(&telemetry);
        let (server, control) =
            Server::bind(config, credentials, telemetry.clone(), Workers::here()).unwrap();
        let (addr, shutdown) = (server.addr(), ShutdownSignals::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(shutdown.clone()));
        let proxies = Vec::new();
        Self {
            addr,
            token,
            control,
            telemetry,
            shutdown,
            tls,
            events,
            server: tasks,
            _collector: collector,
            proxies,
        }
    }

    /// Returns the configuration of a proxy of this server for `target` that requests any free port.
    pub fn proxy_config(&self, target: SocketAddr) -> ProxyConfig {
        let config = ProxyConfig::new(self.addr.to_string(), "0".parse().unwrap(), target.to_string());
        ProxyConfig {
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(200),
            ..config.with_tls(self.tls.as_ref().map(|_| ClientTls::accepting_any_certificate().unwrap()))
        }
    }

    /// Adds a proxy for `target` on any free port. Returns the public address.
    pub async fn proxy(&mut self, target: SocketAddr, format: ProxyFormat) -> SocketAddr {
        let config = ProxyConfig { format, ..self.proxy_config(target) };
        self.proxy_with(config).await
    }

    /// Adds another proxy for `target` to the service of a public address.
    pub async fn join(&mut self, public: SocketAddr, target: SocketAddr, format: ProxyFormat) {
        let service = public.port().to_string().parse().unwrap();
        let config = ProxyConfig { format, ..self.proxy_config(target).with_service(service) };
        assert_eq!(self.proxy_with(config).await, public);
    }

    /// Adds a proxy and waits until all of its channels are connected. Returns the public address.
    pub async fn proxy_with(&mut self, config: ProxyConfig) -> SocketAddr {
        let channels = match config.format {
            ProxyFormat::Binary => usize::from(config.channels.fewest()),
            ProxyFormat::Text => 1,
        };
        let known: Vec<_> = self.telemetry.snapshot().proxies.iter().map(|proxy| proxy.id).collect();
        let mut proxy = RunningProxy::start(config, self.token.clone());
        let service = proxy.serves().await;
        self.proxies.push(proxy);
        self.until("a proxy with all its channels", |snapshot| {
            let mut new = snapshot.proxies.iter().filter(|proxy| !known.contains(&proxy.id));
            new.any(|proxy| proxy.channels.len() == channels && proxy.services.contains(&service))
        })
        .await;
        SocketAddr::new(LOOPBACK.ip(), service.port)
    }

    /// Stops the `index`-th proxy and waits until the server has removed it.
    pub async fn stop_proxy(&mut self, index: usize) {
        let left = self.telemetry.snapshot().proxies.len() - 1;
        self.proxies.remove(index).stop().await;
        self.until("the proxy is gone", |snapshot| snapshot.proxies.len() == left).await;
    }

    /// Returns the proxies of this tunnel.
    pub fn proxies(&mut self) -> &mut [RunningProxy] {
        &mut self.proxies
    }

    /// Sends a command and returns the reply.
    pub async fn order(&self, command: Command) -> CommandReply {
        soon("a reply", self.control.send(command)).await
    }

    /// Waits until a snapshot satisfies `wanted`, and returns it.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        self.until_within(super::LONG, what, wanted).await
    }

    /// [`until`](Self::until) with another timeout.
    pub async fn until_within(
        &self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Snapshot) -> bool,
    ) -> Snapshot {
        let begin = Instant::now();
        loop {
            let snapshot = self.telemetry.snapshot();
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(begin.elapsed() < limit, "not within {limit:?}: {what}\nsnapshot: {snapshot:#?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until exactly `streams` streams have downloaded bytes.
    pub async fn flowing(&self, streams: usize) -> Snapshot {
        let flow =
            |snapshot: &Snapshot| snapshot.streams.iter().filter(|stream| stream.down > 0).count() == streams;
        self.until("downloads that flow", flow).await
    }

    /// Waits until the stream of the user with this source address is assigned to a channel, and returns it.
    pub async fn stream_of(&self, user: SocketAddr) -> StreamSnapshot {
        let find = |snapshot: &Snapshot| {
            snapshot.streams.iter().find(|s| s.info.addr == user && s.channel.is_some()).cloned()
        };
        find(&self.until("the stream of a connection", |snapshot| find(snapshot).is_some()).await).unwrap()
    }

    /// Returns the live counters of an open stream.
    pub fn stats_of(&self, stream: &StreamSnapshot) -> Arc<StreamStats> {
        self.telemetry.stream_stats(stream.number).expect("the stream is open")
    }

    /// Waits for an event, past or future. Returns the last one of several, because addresses are reused.
    pub async fn event(&self, what: &str, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
        let events = self.events_until(what, |events| events.iter().any(&wanted)).await;
        events.into_iter().rfind(&wanted).unwrap()
    }

    /// Waits until all events so far satisfy `wanted`, and returns them. `wanted` must judge what it is given:
    /// [`events`](Self::events) would take the lock that its caller holds a second time, which waits for ever if an
    /// event is written in between.
    pub async fn events_until(&self, what: &str, wanted: impl Fn(&[EventKind]) -> bool) -> Vec<EventKind> {
        let mut events = self.events.clone();
        soon(what, events.wait_for(|events| wanted(events))).await.unwrap().clone()
    }

    /// Returns all events so far.
    pub fn events(&self) -> Vec<EventKind> {
        self.events.borrow().clone()
    }

    /// Waits for the end of a stream. Returns its reason and the bytes downloaded and uploaded.
    pub async fn ended(&self, key: StreamKey) -> (EndReason, u64, u64) {
        let event = self
            .event(
                &format!("the end of {key}"),
                |event| matches!(event, EventKind::StreamEnded { key: ended, .. } if *ended == key),
            )
            .await;
        let EventKind::StreamEnded { reason, down, up, .. } = event else { unreachable!() };
        (reason, down, up)
    }

    /// Shuts everything down in order and asserts that nothing is left: all permits of users are released, no task,
    /// user, stream, channel, proxy or service remains, and no task panicked.
    pub async fn end(mut self) {
        self.until("all streams have ended", |snapshot| snapshot.totals.streams_open == 0).await;
        let begin = Instant::now();
        self.shutdown.drain.cancel();
        let report = soon("the server ends", self.server.join_next()).await.unwrap().unwrap();
        assert_eq!(report, ShutdownReport::default());
        assert!(begin.elapsed() < DRAIN, "the server waited for a permit: {:?}", begin.elapsed());
        self.assert_nothing_is_left().await;
    }

    /// Stops the server at once, also with open streams. The proxies continue to run.
    pub async fn stop_server(&mut self) -> ShutdownReport {
        self.shutdown.abort.cancel();
        let report = soon("the server ends", self.server.join_next()).await.unwrap().unwrap();
        assert_eq!(ShutdownReport { aborted_streams: 0, ..report }, ShutdownReport::default());
        report
    }

    /// Moves the proxies to another server that has the port and the token of this one.
    pub async fn hand_over(mut self, successor: &mut Self) {
        successor.proxies.append(&mut self.proxies);
        self.assert_nothing_is_left().await;
    }

    /// Asserts that telemetry is empty, stops the proxies, and asserts that no task panicked.
    async fn assert_nothing_is_left(mut self) {
        let after = self.telemetry.snapshot();
        let totals = after.totals;
        assert_eq!((totals.streams_open, totals.users_current), (0, 0));
        assert!(
            after.streams.is_empty()
                && after.users.is_empty()
                && after.proxies.is_empty()
                && after.services.is_empty(),
            "{after:#?}"
        );
        for proxy in self.proxies.drain(..) {
            proxy.stop().await;
        }
        let panicked = PANICS.lock().unwrap();
        assert!(panicked.is_empty(), "{panicked:?}");
    }
}

impl RunningProxy {
    /// Starts a proxy.
    pub fn start(config: ProxyConfig, token: Token) -> Self {
        Self::start_with(config, token, Connector::new())
    }

    /// Starts a proxy that connects with `connector`.
    pub fn start_with(config: ProxyConfig, token: Token, connector: Connector) -> Self {
        let proxy = Arc::new(Proxy::new(config, token, Workers::here()).observed().with_connector(connector));
        let serving = proxy.watch_services();
        let mut tasks = JoinSet::new();
        let running = proxy.clone();
        tasks.spawn(async move { running.run().await });
        Self { proxy, serving, tasks }
    }

    /// Waits until it serves a public port, and returns that service.
    pub async fn serves(&mut self) -> ServiceKey {
        let mut serving = self.serving.clone();
        let service = soon("a proxy serves", async {
            tokio::select! {
                served = serving.wait_for(|served| !served.is_empty()) => served.unwrap()[0].service.clone(),
                Some(ended) = self.tasks.join_next() => panic!("the proxy ended: {ended:?}"),
            }
        });
        service.await
    }

    /// Waits until it serves no public port.
    pub async fn serves_nothing(&self) {
        self.serves_when("a proxy stops serving", |served| served.is_empty()).await;
    }

    /// Waits until what its servers serve satisfies `wanted`, and returns that.
    pub async fn serves_when(
        &self,
        what: &str,
        wanted: impl Fn(&[ServedService]) -> bool,
    ) -> Vec<ServedService> {
        let mut serving = self.serving.clone();
        soon(what, serving.wait_for(|served| wanted(served))).await.unwrap().clone()
    }

    /// Changes what it serves. Returns what has changed.
    pub fn replace_services(&self, services: Vec<ServiceConfig>) -> ServiceChanges {
        self.try_replace_services(services).unwrap()
    }

    /// Changes what it serves, unless one proxy cannot serve that.
    pub fn try_replace_services(
        &self,
        services: Vec<ServiceConfig>,
    ) -> Result<ServiceChanges, ServicesError> {
        self.proxy.replace_services(services)
    }

    /// Changes the servers that it connects to.
    pub fn replace_servers(&self, servers: Vec<ServerEndpoint>) {
        self.proxy.replace_servers(servers);
    }

    /// Waits until it gives up, and returns the error.
    pub async fn gives_up(mut self) -> ProxyError {
        soon("a proxy gives up", self.tasks.join_next()).await.unwrap().unwrap().unwrap_err()
    }

    /// Stops it and waits for all of its tasks.
    pub async fn stop(mut self) {
        self.proxy.stop();
        within(Duration::from_secs(5), "a proxy ends", self.tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// Collects every event, starting before the server does.
fn collect(telemetry: &Telemetry) -> (watch::Receiver<Vec<EventKind>>, JoinSet<()>) {
    let mut events = telemetry.subscribe();
    let (sender, receiver) = watch::channel(Vec::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // The loop ends if the receiver lags, and then tests that wait for an event fail: the events of a test fit into
        // the channel.
        while let Ok(event) = events.recv().await {
            sender.send_modify(|all| all.push(event.kind));
        }
    });
    (receiver, tasks)
}

/// Messages of panics outside of the tests. The tunnel survives the panic of a task, so that a test that causes one
/// could pass.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Installs a panic hook that records panics outside of the tests.
fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            if !place.starts_with("tests/") {
                PANICS.lock().unwrap().push(info.to_string());
            }
            usual(info);
        }));
    });
}
