//! The simulated tunnel with its relays and targets, and the injection of a script's faults.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use underpass::{
    config::{ChannelCount, ProxyConfig, ProxyFormat, ServerConfig},
    control::{Command, LimitScope},
    ids::{Direction, ProxyId, Rate, StreamKey},
    wire::handshake::Token,
};

use crate::{
    script::{Act, Script, Seat},
    support::{
        LONG, Running,
        relay::{Connection, Refusal, Relay, Wire},
        soon, target,
        tunnel::{RunningProxy, Tunnel},
        within,
    },
    tally::Tally,
    users::{Outcome, Transfer, Wrong, exchanger, probe},
};

/// Interval of polling the number of transferred bytes.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Time without a transferred byte after which the next fault is injected anyway.
const STALLED: Duration = Duration::from_millis(60);

/// Rate limit of the origin in bytes per second.
const RATE: u64 = 10_000_000;

pub struct World {
    tunnel: Tunnel,
    config: ServerConfig,
    proxies: Vec<Member>,
    /// Faults that end at a given time.
    ends: Vec<(Instant, End)>,
    tally: Tally,
}

/// A proxy behind its own relay.
struct Member {
    name: String,
    relay: Relay,
    config: ProxyConfig,
    /// `None` while it has crashed.
    running: Option<RunningProxy>,
}

enum End {
    Up(Vec<Arc<Connection>>),
    Refused(Refusal),
    /// A new proxy is started in its place once its relay accepts connections.
    Dead(usize, Option<Refusal>),
    Drained(ProxyId),
    Paused(StreamKey),
    Limited(StreamKey),
}

impl World {
    /// Runs a script and asserts at its end that nothing is left.
    pub async fn play(script: &Script) -> Tally {
        let listen = SocketAddr::new(script.address().into(), 0);
        let mut config = ServerConfig {
            listen,
            bind: listen.ip(),
            grace_period: script.grace,
            proxy_wait_timeout: script.wait,
            initial_window: script.window,
            user_retention: Duration::from_millis(20),
            drain_timeout: Duration::from_secs(5),
            ..ServerConfig::default()
        };
        let tunnel = Tunnel::bind(config.clone(), Token::random()).await;
        config.listen = tunnel.addr;
        let (wrong, origin) = (Wrong::default(), target::origin(RATE).await);
        let exchanger = exchanger(&wrong).await;
        let mut world =
            Self { tunnel, config, proxies: Vec::new(), ends: Vec::new(), tally: Tally::default() };
        let mut public = [None, None];
        for &seat in &script.proxies {
            let target = [origin.addr, exchanger.addr][seat.service];
            let port = world.join(seat, target, public[seat.service]).await;
            public[seat.service] = Some(port);
        }
        let public = public.map(|port| SocketAddr::new(listen.ip(), port.unwrap()));

        let mut users = JoinSet::new();
        for (user, transfers) in script.users.iter().cloned().enumerate() {
            users.spawn(use_it(transfers, public, user as u8));
        }
        world.inject_faults(script).await;
        world.remove_limits().await;
        while let Some(outcomes) = within(LONG, "the last users end", users.join_next()).await {
            for outcome in outcomes.unwrap() {
                world.outcome(script, outcome);
            }
        }
        world.recovers(public).await;

        origin.when_open(0, LONG).await;
        exchanger.when(|counts| counts.open == 0, LONG).await;
        assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new());
        for member in &mut world.proxies {
            member.running.take().unwrap().stop().await;
        }
        world.tally.events(&world.tunnel.events());
        world.tunnel.end().await;
        world.tally
    }

    /// Adds a proxy and returns the port of its service.
    async fn join(&mut self, seat: Seat, target: SocketAddr, port: Option<u16>) -> u16 {
        let (relay, name) = (Relay::to(self.tunnel.addr).await, format!("proxy-{}", self.proxies.len()));
        let mut config = ProxyConfig {
            name: name.clone(),
            channels: ChannelCount::Fixed(seat.channels),
            format: if seat.text { ProxyFormat::Text } else { ProxyFormat::Binary },
            min_backoff: Duration::from_millis(5),
            max_backoff: Duration::from_millis(50),
            ..self
                .tunnel
                .proxy_config(target)
                .with_server(relay.addr.to_string())
                .with_service(port.unwrap_or(0).to_string().parse().unwrap())
        };
        let mut running = RunningProxy::start(config.clone(), self.tunnel.token.clone());
        let service = running.serves().await;
        // A proxy that replaces it requests the same port.
        config = config.with_service(service.clone());
        self.proxies.push(Member { name, relay, config, running: Some(running) });
        service.port
    }

    /// Injects all faults, each after its share of the bytes, and ends those with a duration.
    async fn inject_faults(&mut self, script: &Script) {
        for &(share, act) in &script.acts {
            let moment = (share * script.bytes() as f64) as u64;
            let (mut carried, mut since) = (self.carried(), Instant::now());
            while carried < moment && since.elapsed() < STALLED {
                tokio::time::sleep(POLL_INTERVAL).await;
                let now = self.carried();
                if now > carried {
                    (carried, since) = (now, Instant::now());
                }
                self.undo(Instant::now()).await;
            }
            if self.inject(act).await {
                self.tally.count(format!("act {}", act.name()));
            }
        }
        while let Some(last) = self.ends.iter().map(|(due, _)| *due).max() {
            tokio::time::sleep_until(last.into()).await;
            self.undo(last).await;
        }
    }

    fn carried(&self) -> u64 {
        let wires = self.proxies.iter().flat_map(|member| member.relay.all());
        wires.map(|wire| wire.carried()).sum()
    }

    /// Injects a fault. Returns `false` if its object does not exist.
    async fn inject(&mut self, act: Act) -> bool {
        let now = Instant::now();
        match act {
            Act::One(proxy, index, wire) => {
                let wires = self.proxies[proxy].latest();
                wires[index % wires.len()].set(wire);
            }
            Act::All(proxy, wire) => self.proxies[proxy].latest().iter().for_each(|one| one.set(wire)),
            Act::Partition(proxy, time) => {
                let wires = self.proxies[proxy].latest();
                wires.iter().for_each(|wire| wire.set(Wire::Dead));
                self.ends.push((now + time, End::Up(wires)));
            }
            Act::Outage(proxy, time) => {
                let relay = &self.proxies[proxy].relay;
                self.ends.push((now + time, End::Refused(relay.refuse())));
                relay.set_all(Wire::Closed);
            }
            Act::Silence(proxy) => self.proxies[proxy].latest()[0].set(Wire::Dead),
            Act::Freeze(time) => {
                // In a task, so that it blocks one of the worker threads.
                Running::start(async move { thread::sleep(time) }).end("a thread goes on").await;
            }
            Act::Crash(proxy, time) => {
                let member = &mut self.proxies[proxy];
                let Some(running) = member.running.take() else { return false };
                let refusal = member.relay.refuse();
                member.relay.set_all(Wire::Cut);
                running.stop().await;
                self.ends.push((now + time, End::Dead(proxy, Some(refusal))));
            }
            Act::Stop(proxy, time) => {
                let Some(running) = self.proxies[proxy].running.take() else { return false };
                running.stop().await;
                self.ends.push((now + time, End::Dead(proxy, None)));
            }
            Act::Restart => {
                self.tunnel.stop_server().await;
                self.tally.events(&self.tunnel.events());
                let mut heir = Tunnel::bind(self.config.clone(), self.tunnel.token.clone()).await;
                std::mem::swap(&mut self.tunnel, &mut heir);
                heir.hand_over(&mut self.tunnel).await;
            }
            Act::Kill(number) => {
                let Some(key) = self.stream(number) else { return false };
                return self.tunnel.order(Command::KillStream(key)).await.is_ok();
            }
            Act::KillUser(number) => {
                let Some(key) = self.stream(number) else { return false };
                return self.tunnel.order(Command::KillUser(key.user)).await.is_ok();
            }
            Act::Kick(proxy) => {
                let Some(id) = self.id(proxy) else { return false };
                return self.tunnel.order(Command::KickProxy(id)).await.is_ok();
            }
            Act::Drain(proxy, time) => {
                let Some(id) = self.id(proxy) else { return false };
                self.ends.push((now + time, End::Drained(id)));
                return self.tunnel.order(Command::DrainProxy(id)).await.is_ok();
            }
            Act::Pause(number, time) => {
                let Some(key) = self.stream(number) else { return false };
                self.ends.push((now + time, End::Paused(key)));
                return self.tunnel.order(Command::PauseStream(key)).await.is_ok();
            }
            Act::Prefer(number, priority) => {
                let Some(key) = self.stream(number) else { return false };
                return self.tunnel.order(Command::SetPriority(key, priority)).await.is_ok();
            }
            Act::Limit(number, time) => {
                let Some(key) = self.stream(number) else { return false };
                self.ends.push((now + time, End::Limited(key)));
                return self.limit(key, Rate::new(100_000)).await;
            }
        }
        true
    }

    /// Ends the faults whose time is up.
    async fn undo(&mut self, until: Instant) {
        let (due, later) = std::mem::take(&mut self.ends).into_iter().partition(|(due, _)| *due <= until);
        self.ends = later;
        let due: Vec<(Instant, End)> = due;
        for (_, end) in due {
            // The object of the fault may no longer exist.
            match end {
                End::Up(wires) => wires.iter().for_each(|wire| wire.set(Wire::Up)),
                End::Refused(refusal) => drop(refusal),
                End::Dead(proxy, refusal) => {
                    drop(refusal);
                    let member = &mut self.proxies[proxy];
                    let (config, token) = (member.config.clone(), self.tunnel.token.clone());
                    member.running = Some(RunningProxy::start(config, token));
                }
                End::Drained(id) => _ = self.tunnel.order(Command::UndrainProxy(id)).await,
                End::Paused(key) => _ = self.tunnel.order(Command::ResumeStream(key)).await,
                End::Limited(key) => _ = self.limit(key, None).await,
            }
        }
    }

    async fn limit(&self, key: StreamKey, rate: Option<Rate>) -> bool {
        let limit = |direction| Command::SetLimit(LimitScope::Stream(key), direction, rate);
        let (down, up) =
            (self.tunnel.order(limit(Direction::Down)).await, self.tunnel.order(limit(Direction::Up)).await);
        down.is_ok() && up.is_ok()
    }

    fn stream(&self, number: usize) -> Option<StreamKey> {
        let mut streams: Vec<_> = self.tunnel.telemetry.snapshot().streams.iter().map(|s| s.key).collect();
        streams.sort();
        (!streams.is_empty()).then(|| streams[number % streams.len()])
    }

    fn id(&self, proxy: usize) -> Option<ProxyId> {
        let snapshot = self.tunnel.telemetry.snapshot();
        snapshot.proxies.iter().find(|one| *one.name == self.proxies[proxy].name).map(|one| one.id)
    }

    /// Removes all delays and limits.
    async fn remove_limits(&self) {
        for wire in self.proxies.iter().flat_map(|member| member.relay.all()) {
            wire.is_no_longer(Wire::Slow);
        }
    }

    fn outcome(&mut self, script: &Script, outcome: Outcome) {
        self.tally.count(match outcome {
            Outcome::Whole => "transfer whole",
            Outcome::BrokenOff => "transfer broken off by one of its ends",
            Outcome::Failed(error) => {
                assert!(!script.gentle, "nothing was done that ends a stream, and one failed: {error}");
                "transfer failed"
            }
            Outcome::Wrong(what) => panic!("silently wrong: {what}"),
        });
    }

    /// Waits until new users are served by both services.
    async fn recovers(&self, public: [SocketAddr; 2]) {
        for transfer in probe() {
            let whole = async {
                loop {
                    match transfer.run(public[transfer.service()], 99).await {
                        Outcome::Whole => return,
                        Outcome::Wrong(what) => panic!("silently wrong: {what}"),
                        _ => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
            };
            soon("a user who is served again", whole).await;
        }
    }
}

impl Member {
    /// Returns the connections of its channels, the latest first; there is at least one.
    fn latest(&self) -> Vec<Arc<Connection>> {
        let channels = usize::from(self.config.channels.fewest());
        self.relay.all().into_iter().rev().take(channels).collect()
    }
}

/// Runs the transfers of one user.
async fn use_it(transfers: Vec<Transfer>, public: [SocketAddr; 2], user: u8) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for transfer in transfers {
        let what = format!("the end of {transfer:?} of user {user}");
        let outcome = soon(&what, transfer.run(public[transfer.service()], user)).await;
        if let Outcome::Failed(_) = outcome {
            // Waits after a failure; otherwise all transfers would fail by the same fault.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        outcomes.push(outcome);
    }
    outcomes
}
