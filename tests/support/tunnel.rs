//! The whole tunnel in this process: a real server, real proxies, real sockets on loopback ports that the system chose.

use std::{
    net::SocketAddr,
    panic,
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};
use underpass::{
    config::{ProxyConfig, ProxyFormat, ServerConfig},
    control::{Command, CommandReply, CommandSender},
    ids::{ServiceKey, StreamKey},
    proxy::{Proxy, ProxyError},
    runtime::Workers,
    server::{Server, ShutdownReport, ShutdownSignals},
    telemetry::{EndReason, EventKind, Snapshot, StreamSnapshot, StreamStats, Telemetry},
    wire::handshake::Token,
};

use super::{relay::Relay, soon, target::LOOPBACK, within};

/// Both formats, for tests that hold for either.
pub const FORMATS: [ProxyFormat; 2] = [ProxyFormat::Binary, ProxyFormat::Text];

/// How often a condition that nobody signals is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long open streams may take to end when the tunnel is taken down. None should be open by then.
const DRAIN: Duration = Duration::from_secs(5);

/// A running server. [`end`](Self::end) it: that proves that nothing is left.
pub struct Tunnel {
    pub addr: SocketAddr,
    pub token: Token,
    pub control: CommandSender,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: ShutdownSignals,
    events: watch::Receiver<Vec<EventKind>>,
    server: JoinSet<ShutdownReport>,
    _collector: JoinSet<()>,
    proxies: Vec<RunningProxy>,
}

/// A proxy that runs until it is stopped.
pub struct RunningProxy {
    proxy: Arc<Proxy>,
    serving: watch::Receiver<Option<ServiceKey>>,
    tasks: JoinSet<Result<(), ProxyError>>,
}

impl Tunnel {
    /// A server with a user linger that no test has to wait for.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with something of its configuration changed.
    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig {
            listen: LOOPBACK,
            bind: LOOPBACK.ip(),
            drain_timeout: DRAIN,
            user_id_retention: Duration::from_millis(100),
            ..ServerConfig::default()
        };
        change(&mut config);
        Self::bind(config, Token::random()).await
    }

    /// The same with a proxy for `target`, whose two channels go through a relay; and the public address.
    pub async fn through_a_relay(
        change: impl FnOnce(&mut ServerConfig),
        target: SocketAddr,
    ) -> (Self, Relay, SocketAddr) {
        let mut tunnel = Self::with(change).await;
        let relay = Relay::to(tunnel.addr).await;
        let config =
            ProxyConfig { server: relay.addr.to_string(), channels: 2, ..tunnel.proxy_config(target) };
        let public = tunnel.proxy_with(config).await;
        assert_eq!(relay.len(), 2);
        (tunnel, relay, public)
    }

    /// A server of this configuration, which may be another's that has ended: its port is tried until it is free.
    pub async fn bind(config: ServerConfig, token: Token) -> Self {
        watch_for_panics();
        let telemetry = Telemetry::new();
        let (events, collector) = collect(&telemetry);
        let (server, control) =
            Server::bind(config, token.clone(), telemetry.clone(), Workers::here()).unwrap();
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
            events,
            server: tasks,
            _collector: collector,
            proxies,
        }
    }

    /// How a proxy of this server for `target` is configured. It asks for any free port.
    pub fn proxy_config(&self, target: SocketAddr) -> ProxyConfig {
        let config = ProxyConfig::new(self.addr.to_string(), "0".parse().unwrap(), target.to_string());
        ProxyConfig {
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(200),
            ..config
        }
    }

    /// Adds a proxy for `target`, on any free port; the public address.
    pub async fn proxy(&mut self, target: SocketAddr, format: ProxyFormat) -> SocketAddr {
        let config = ProxyConfig { format, ..self.proxy_config(target) };
        self.proxy_with(config).await
    }

    /// Adds one more proxy for `target` on a public address that is served already.
    pub async fn join(&mut self, public: SocketAddr, target: SocketAddr, format: ProxyFormat) {
        let service = public.port().to_string().parse().unwrap();
        let config = ProxyConfig { format, service, ..self.proxy_config(target) };
        assert_eq!(self.proxy_with(config).await, public);
    }

    /// Adds a proxy, and waits until it serves with all of its channels; the public address.
    pub async fn proxy_with(&mut self, config: ProxyConfig) -> SocketAddr {
        let channels = match config.format {
            ProxyFormat::Binary => usize::from(config.channels),
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

    /// Ends the proxy that was added as the `index`-th, and waits until the server knows.
    pub async fn stop_proxy(&mut self, index: usize) {
        let left = self.telemetry.snapshot().proxies.len() - 1;
        self.proxies.remove(index).stop().await;
        self.until("the proxy is gone", |snapshot| snapshot.proxies.len() == left).await;
    }

    /// The proxies that run here.
    pub fn proxies(&mut self) -> &mut [RunningProxy] {
        &mut self.proxies
    }

    /// Orders something.
    pub async fn order(&self, command: Command) -> CommandReply {
        soon("a reply", self.control.send(command)).await
    }

    /// Waits until the numbers are as wanted.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        self.until_within(super::LONG, what, wanted).await
    }

    /// [`until`](Self::until) with another deadline.
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
            assert!(begin.elapsed() < limit, "not within {limit:?}: {what}\nthere is {snapshot:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many streams bring bytes to their users.
    pub async fn flowing(&self, streams: usize) -> Snapshot {
        let flow =
            |snapshot: &Snapshot| snapshot.streams.iter().filter(|stream| stream.down > 0).count() == streams;
        self.until("downloads that flow", flow).await
    }

    /// The stream of the user's connection that has this address at the user's end, once a proxy has it.
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

    /// Waits for an event, also one that was before; of several the last, as addresses are used again.
    pub async fn event(&self, what: &str, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
        let mut events = self.events.clone();
        let found = soon(what, events.wait_for(|events| events.iter().any(&wanted))).await;
        found.unwrap().iter().rfind(|event| wanted(event)).unwrap().clone()
    }

    /// All events so far.
    pub fn events(&self) -> Vec<EventKind> {
        self.events.borrow().clone()
    }

    /// How a stream ended, and its bytes down and up.
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

    /// Takes everything down in order, and proves that nothing is left: the users' permits come back by themselves,
    /// no task, user, stream, channel, proxy or service stays, and nothing panicked.
    pub async fn end(mut self) {
        self.until("all streams have ended", |snapshot| snapshot.totals.streams_open == 0).await;
        let begin = Instant::now();
        self.shutdown.drain.cancel();
        let report = soon("the server ends", self.server.join_next()).await.unwrap().unwrap();
        assert_eq!(report, ShutdownReport::default());
        assert!(begin.elapsed() < DRAIN, "a permit was missing: {:?}", begin.elapsed());
        self.nothing_is_left().await;
    }

    /// Ends the server as it stands, with streams open or not. The proxies go on.
    pub async fn stop_server(&mut self) -> ShutdownReport {
        self.shutdown.abort.cancel();
        let report = soon("the server ends", self.server.join_next()).await.unwrap().unwrap();
        assert_eq!(ShutdownReport { aborted_streams: 0, ..report }, ShutdownReport::default());
        report
    }

    /// Hands the proxies over to another server, if that has the port and the token of this one.
    pub async fn hand_over(mut self, heir: &mut Self) {
        heir.proxies.append(&mut self.proxies);
        self.nothing_is_left().await;
    }

    async fn nothing_is_left(mut self) {
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
        let panicked = PANICKED.lock().unwrap();
        assert!(panicked.is_empty(), "{panicked:?}");
    }
}

impl RunningProxy {
    /// Runs a proxy.
    pub fn start(config: ProxyConfig, token: Token) -> Self {
        let proxy = Arc::new(Proxy::new(config, token, Workers::here()));
        let serving = proxy.watch_service();
        let mut tasks = JoinSet::new();
        let running = proxy.clone();
        tasks.spawn(async move { running.run().await });
        Self { proxy, serving, tasks }
    }

    /// Waits until it serves; what.
    pub async fn serves(&mut self) -> ServiceKey {
        let mut serving = self.serving.clone();
        let service = soon("a proxy serves", async {
            tokio::select! {
                service = serving.wait_for(Option::is_some) => service.unwrap().clone().unwrap(),
                Some(ended) = self.tasks.join_next() => panic!("the proxy ended: {ended:?}"),
            }
        });
        service.await
    }

    /// Waits until it serves no more.
    pub async fn serves_nothing(&self) {
        let mut serving = self.serving.clone();
        soon("a proxy stops serving", serving.wait_for(Option::is_none)).await.unwrap();
    }

    /// Waits until it gives up; why.
    pub async fn gives_up(mut self) -> ProxyError {
        soon("a proxy gives up", self.tasks.join_next()).await.unwrap().unwrap().unwrap_err()
    }

    /// Ends it, and waits for the last of its tasks.
    pub async fn stop(mut self) {
        self.proxy.stop();
        within(Duration::from_secs(5), "a proxy ends", self.tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// Keeps every event, from before the server began.
fn collect(telemetry: &Telemetry) -> (watch::Receiver<Vec<EventKind>>, JoinSet<()>) {
    let mut events = telemetry.subscribe();
    let (sender, receiver) = watch::channel(Vec::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // A lag fails the tests that wait for an event, and that is right: a test has few.
        while let Ok(event) = events.recv().await {
            sender.send_modify(|all| all.push(event.kind));
        }
    });
    (receiver, tasks)
}

/// Where something outside the tests panicked. Tasks of the tunnel survive each other's panics, so that the test that
/// caused one might pass.
static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            if !place.starts_with("tests/") {
                PANICKED.lock().unwrap().push(info.to_string());
            }
            usual(info);
        }));
    });
}
