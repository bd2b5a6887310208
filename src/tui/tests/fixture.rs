//! The fixture of the cockpit's tests: a model fed by a real telemetry hub, with every time injected. The hub's own
//! clock reaches no assertion: samples and events get the times of the test's clock.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ratatui::{Terminal, backend::TestBackend, layout::Size};
use tokio::sync::broadcast;
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    ids::{ChannelId, Priority, ProxyId, StreamKey, UserChannelId},
    telemetry::{
        ChannelFormat, ChannelGuard, Content, EndReason, Event, LogRecord, LogRing, ProxyGuard, ServiceGuard,
        Snapshot, StreamGuard, StreamInfo, StreamPhase, Telemetry, UserGuard,
    },
    tui::{
        Labels, LogLayer, Role,
        model::{Model, Overlay},
        msg::{Effect, Msg},
        terminal::{Key, KeyCode},
        theme::Theme,
        update::{sample, update},
        view,
    },
};

/// Writes the log records that every screen shows, once: tui-logger's buffer is shared by the whole process, and no
/// other test writes to it.
fn write_log() -> &'static VecDeque<LogRecord> {
    static WRITTEN: OnceLock<VecDeque<LogRecord>> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let ring = LogRing::new();
        let registry = tracing_subscriber::registry().with(LogLayer::new(ring.clone()));
        tracing::subscriber::with_default(registry, || {
            tracing::info!(target: "lifecycle", "listening on 0.0.0.0:7000");
            for proxy in 1..=12 {
                tracing::info!(target: "lifecycle", "proxy P{proxy} up from 192.0.2.7:4000");
            }
            tracing::warn!(target: "operator", "kick proxy P3: it is not there any more");
            tracing::error!(target: "panic", "asked for\u{1b}[2J, elsewhere");
            tracing::info!(target: "operator", "operator: kill stream 10033A:1 by=cockpit streams=1");
        });
        tui_logger::move_events();
        ring.drain()
    })
}

/// A model, a hub that feeds it, and a clock that moves only in [`tick`](Fixture::tick).
pub(super) struct Fixture {
    pub(super) model: Model,
    pub(super) hub: Arc<Telemetry>,
    pub(super) start: Instant,
    events: broadcast::Receiver<Event>,
    pub(super) now: Instant,
    pub(super) service: ServiceGuard,
    pub(super) proxies: Vec<(ProxyGuard, ChannelGuard)>,
    pub(super) users: Vec<UserGuard>,
    pub(super) streams: Vec<StreamGuard>,
    /// Adjusts each snapshot before the model gets it: for figures that no counter of the hub has.
    pub(super) adjust_snapshot: fn(&mut Snapshot),
    /// When proxies, users and streams began, on the test's clock since `start`.
    connected_at: HashMap<ProxyId, Duration>,
    joined_at: HashMap<UserChannelId, Duration>,
    opened_at: HashMap<StreamKey, Duration>,
}

/// The wall clock at the start of every test, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn key(user: u32, stream: u32) -> StreamKey {
    StreamKey::new(UserChannelId::new(user), stream)
}

/// The key that a character stands for in scripts of keys: see [`Fixture::press`].
pub(super) fn key_of(c: char) -> Key {
    match c {
        '>' => Key::plain(KeyCode::Enter),
        '<' => Key::plain(KeyCode::Esc),
        '_' => Key::plain(KeyCode::Tab),
        '^' => Key::ctrl('c'),
        c => Key::char(c),
    }
}

impl Fixture {
    /// A server without proxies and streams.
    pub(super) fn empty(width: u16, height: u16) -> Self {
        let hub = Telemetry::new();
        let events = hub.subscribe();
        let service = hub.service_opened("8080".parse().unwrap());
        let labels = Labels {
            role: Role::Server,
            title: "demo".into(),
            listen: "0.0.0.0:7000".into(),
            join: Some("underpass proxy --server 198.51.100.1:7000 --port 8080 --to 127.0.0.1:80".into()),
            secret: None,
            curl: None,
            drain: Some(Duration::from_secs(10)),
            ..Labels::default()
        };
        let start = Instant::now();
        let mut model = Model::new(labels, Theme::dark(), Size::new(width, height), start);
        write_log().iter().for_each(|record| model.log_screen.push(record.clone()));
        let (proxies, users, streams) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            model,
            hub,
            start,
            events,
            now: start,
            service,
            proxies,
            users,
            streams,
            adjust_snapshot: |_| {},
            connected_at: HashMap::new(),
            joined_at: HashMap::new(),
            opened_at: HashMap::new(),
        }
    }

    /// A server with three proxies, one of which has disconnected, and with streams in every state.
    pub(super) fn busy(width: u16, height: u16) -> Self {
        let mut fixture = Self::empty(width, height);
        for name in ["edge-fra", "edge-ams", "lab"] {
            fixture.proxy(name);
        }
        for i in 0..40u32 {
            let index = fixture.open(0x10_0000 + (i % 7) * 0x01_9D37, i / 7 + 1);
            if i != 5 {
                fixture.assign(index, (i % 3) as usize);
            }
        }
        // The first sample comes half a second after the streams opened.
        fixture.now += Duration::from_millis(500);
        let paused: Vec<_> =
            fixture.streams.iter().skip(9).step_by(16).map(|stream| stream.stats().key).collect();
        for tick in 0..=20u64 {
            for (i, stream) in fixture.streams.iter().enumerate() {
                let stats = stream.stats();
                if stats.phase() >= StreamPhase::Open && !paused.contains(&stats.key) {
                    stats.add_down([0, 40_000, 1_900_000, 300][i % 4]);
                    stats.add_up(if i % 9 == 0 { 25_000 } else { 10 });
                }
            }
            if tick == 15 {
                for (at, reason) in [
                    (39, EndReason::Finished),
                    (30, EndReason::TargetConnectFailed("connection refused".into())),
                    (20, EndReason::Killed),
                ] {
                    fixture.end(at, reason);
                }
                drop(fixture.proxies.remove(2));
            }
            fixture.tick(Duration::from_millis(100));
        }
        fixture
    }

    /// Connects a proxy with one channel.
    pub(super) fn proxy(&mut self, name: &str) {
        let id = ProxyId(self.proxies.len() as u32 + 1);
        self.connected_at.insert(id, self.now - self.start);
        let guard = self.hub.proxy_up(id, name.into(), addr("192.0.2.7:4000"));
        guard.registered(self.service.stats().key.clone());
        let channel = ChannelId { proxy: id, index: 1 };
        let channel = self.hub.channel_up(channel, addr("192.0.2.7:4000"), ChannelFormat::Binary);
        channel.stats().set_congestion_control("bbr");
        self.proxies.push((guard, channel));
    }

    /// Opens a stream of a user, who joins with the first one. Returns its index.
    pub(super) fn open(&mut self, user: u32, stream: u32) -> usize {
        let key = key(user, stream);
        self.opened_at.insert(key, self.now - self.start);
        let from = addr(&format!("203.0.113.{}:{}", user % 250, 50_000 + stream % 10_000));
        let known = self.users.iter().position(|guard| guard.stats().id == key.user);
        let at = known.unwrap_or_else(|| {
            self.joined_at.insert(key.user, self.now - self.start);
            self.users.push(self.hub.user_joined(key.user, from.ip(), self.service.stats()));
            self.users.len() - 1
        });
        self.streams.push(self.hub.stream_opened(key, from, self.users[at].stats()));
        self.streams.len() - 1
    }

    /// Assigns a stream to a proxy, and gives it a phase, content and priority by its index.
    pub(super) fn assign(&mut self, index: usize, proxy: usize) {
        let (proxy, channel) = &self.proxies[proxy];
        let stream = &self.streams[index];
        stream.assigned(proxy.stats(), channel.stats());
        let phase = match index % 8 {
            3 => StreamPhase::UserDone,
            4 => StreamPhase::TargetDone,
            6 => return,
            _ => StreamPhase::Open,
        };
        stream.stats().set_phase(phase);
        let stats = stream.stats();
        if index % 4 == 2 {
            stats.set_total_size(60_000_000);
        }
        stats.set_content(Arc::new(match index % 5 {
            0 => Content::Tls { sni: Some("app.example".into()) },
            1 => Content::Ssh { banner: None },
            2 => Content::Tcp,
            _ => Content::Http {
                method: "GET".into(),
                target: format!("/pool/main/image-{index}.iso").into(),
                status: Some(200),
                body: None,
            },
        }));
        stats.set_paused(index % 16 == 9);
        stats.set_priority(match index % 16 {
            2 => Priority::Urgent,
            10 => Priority::High,
            5 => Priority::Low,
            9 => Priority::Background,
            _ => Priority::Normal,
        });
    }

    /// Ends a stream. The last stream takes its index.
    pub(super) fn end(&mut self, index: usize, reason: EndReason) {
        self.streams.swap_remove(index).end(reason);
    }

    /// Updates the model with a message. Returns the effects.
    pub(super) fn send(&mut self, message: Msg) -> Vec<Effect> {
        update(&mut self.model, message, self.now)
    }

    /// Updates the model with the events that the hub has emitted, stamped with the time of the test's clock.
    pub(super) fn deliver_events(&mut self) {
        loop {
            match self.events.try_recv() {
                Ok(mut event) => {
                    event.epoch_ms = EPOCH_MS + (self.now - self.start).as_millis() as u64;
                    self.send(Msg::Event(event));
                }
                Err(broadcast::error::TryRecvError::Lagged(missed)) => drop(self.send(Msg::Missed(missed))),
                Err(_) => break,
            }
        }
    }

    /// Discards the events that the hub has emitted, as a lagging receiver would.
    pub(super) fn lose_events(&mut self) {
        self.events = self.events.resubscribe();
    }

    /// Updates the model with a sample, all of whose times are those of the test's clock.
    pub(super) fn sample(&mut self) -> Vec<Effect> {
        let mut snapshot = self.hub.snapshot();
        let uptime = self.now - self.start;
        snapshot.uptime = uptime;
        for user in &mut snapshot.users {
            user.connected_at = self.joined_at.get(&user.id).copied().unwrap_or_default();
        }
        for proxy in &mut snapshot.proxies {
            proxy.connected_at = self.connected_at.get(&proxy.id).copied().unwrap_or_default();
            proxy
                .channels
                .iter_mut()
                .for_each(|channel| channel.age = uptime.saturating_sub(proxy.connected_at));
        }
        for stream in &mut snapshot.streams {
            let opened_at = self.opened_at.get(&stream.key).copied().unwrap_or_default();
            stream.info = Arc::new(StreamInfo { opened_at, ..(*stream.info).clone() });
        }
        (self.adjust_snapshot)(&mut snapshot);
        sample(&mut self.model, &snapshot, self.now)
    }

    /// Advances the clock, then updates the model with the events and a sample.
    pub(super) fn tick(&mut self, time: Duration) {
        self.now += time;
        self.deliver_events();
        self.sample();
    }

    /// Presses keys, one for each character: `>` is Enter, `<` Escape, `_` Tab, `^` Control-C, anything else itself. A
    /// dialog has been on the screen for a moment before a key answers it.
    pub(super) fn press(&mut self, keys: &str) -> Vec<Effect> {
        keys.chars()
            .flat_map(|c| {
                if matches!(self.model.overlay, Some(Overlay::Dialog(_))) {
                    self.now += Duration::from_millis(100);
                }
                // As slowly as a person does.
                self.model.last_key = None;
                self.send(Msg::Key(key_of(c)))
            })
            .collect()
    }

    /// Presses keys that arrive at once, named as in [`press`](Self::press).
    pub(super) fn burst(&mut self, keys: &str) -> Vec<Effect> {
        let effects = self.send(Msg::KeyBurst(keys.chars().map(key_of).collect()));
        // The next key is pressed later.
        self.now += Duration::from_millis(100);
        effects
    }

    /// Types text as it stands.
    pub(super) fn type_in(&mut self, text: &str) {
        for c in text.chars() {
            self.send(Msg::Key(Key::char(c)));
        }
    }

    /// The key of the selected stream.
    pub(super) fn selected(&self) -> Option<StreamKey> {
        self.model.selected().map(|(_, row)| row.key)
    }

    /// The keys of all rows, in the order of the table.
    pub(super) fn keys(&self) -> Vec<StreamKey> {
        self.model
            .rows()
            .iter()
            .filter_map(|id| self.model.live.streams.get(*id))
            .map(|row| row.key)
            .collect()
    }

    pub(super) fn notice(&self) -> &str {
        self.model.notice.as_ref().map_or("", |notice| &notice.text)
    }

    pub(super) fn resize(&mut self, width: u16, height: u16) {
        self.send(Msg::Resized(Size::new(width, height)));
    }

    /// Draws the screen.
    pub(super) fn screen(&self) -> Terminal<TestBackend> {
        let Size { width, height } = self.model.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view::draw(&self.model, frame.buffer_mut())).unwrap();
        terminal
    }

    /// Returns the screen as text without trailing blanks.
    pub(super) fn text(&self) -> String {
        let terminal = self.screen();
        let buffer = terminal.backend().buffer();
        let rows = (0..buffer.area.height).map(|y| {
            let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
            row.trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }
}
