//! A server with streams, users, proxies and channels, in the time of its recording.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use super::BEGINS;
use crate::{
    ids::{ChannelId, ProxyId, ServiceKey, StreamKey, UserChannelId},
    recording::recorder::RecordWriter,
    telemetry::{
        ChannelFormat, ChannelSnapshot, ChannelState, Content, EndReason, Event, EventKind, Latencies,
        LatencySummary, Progress, ProxySnapshot, ServiceSnapshot, Snapshot, StreamInfo, StreamPhase,
        StreamSnapshot, StreamState, TcpInfo, UserSnapshot,
    },
};

/// How long a user stays after its last stream, in milliseconds.
const USER_STAYS_MS: u64 = 60_000;

/// A stream that has not ended.
struct Open {
    /// Its serial number.
    number: u64,
    /// Its key.
    key: StreamKey,
    /// The user's address.
    addr: SocketAddr,
    /// Its proxy.
    proxy: ProxyId,
    /// When it was opened, and when it ends, in microseconds.
    time: (u64, u64),
    /// What it carries.
    content: Arc<Content>,
    /// The bytes of its download and upload.
    bytes: (u64, u64),
}

/// A server with a given number of streams a second. Most streams are downloads of one of 200 paths by one of 2,000
/// users, and one in ten is of a user that was not there before; sizes and durations are spread evenly on a logarithmic
/// scale, up to 2 MB and 10 s.
pub(super) struct Server {
    /// Its state.
    pub(super) snapshot: Snapshot,
    /// The time, in milliseconds since the begin.
    pub(super) ms: u64,
    /// The streams that have not ended.
    open: Vec<Open>,
    /// When each user of the snapshot had its last stream.
    last_seen: Vec<u64>,
    /// The place of each user in the snapshot.
    places: HashMap<UserChannelId, usize>,
    /// How many users come again and again.
    pub(super) regulars: u64,
    /// How many users there were.
    users: u64,
    /// How many streams each user has had, by its id.
    streams_of: HashMap<UserChannelId, u32>,
    /// The state of the generator of numbers.
    seed: u64,
}

impl Server {
    pub(super) fn new() -> Self {
        let mut server = Self {
            snapshot: Snapshot::default(),
            ms: 0,
            open: Vec::new(),
            last_seen: Vec::new(),
            places: HashMap::new(),
            regulars: 2000,
            users: 0,
            streams_of: Default::default(),
            seed: 1,
        };
        server.snapshot.services.push(ServiceSnapshot {
            key: service(),
            down: 0,
            up: 0,
            streams_open: 0,
            streams_total: 0,
            policy: Default::default(),
            limits: Default::default(),
            latency: Arc::default(),
        });
        server.snapshot.proxies = (1..=3).map(|id| proxy(ProxyId(id))).collect();
        server
    }

    /// Returns a number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    /// Returns a number of up to `digits` binary digits, as many small ones as large ones.
    fn logarithmic(&mut self, digits: u64) -> u64 {
        let digits = self.below(digits);
        (1 << digits) + self.below(1 << digits)
    }

    /// Emits an event.
    pub(super) fn event(&mut self, writer: &mut RecordWriter, kind: EventKind) {
        writer.event(Event { epoch_ms: BEGINS + self.ms, kind });
    }

    /// Advances by a second in which `streams` open, and writes what happens. Returns what the recorder reports.
    pub(super) fn second(&mut self, streams: u64, writer: &mut RecordWriter) -> Option<EventKind> {
        let begin = self.ms;
        for index in 0..streams {
            self.advance(begin + index * 1000 / streams, writer);
            self.open(writer);
        }
        self.advance(begin + 1000, writer);
        self.leave(writer);
        self.carry();
        self.measure();
        writer.state(&self.snapshot, BEGINS + self.ms)
    }

    /// Ends streams up to a time, in its order.
    fn advance(&mut self, until: u64, writer: &mut RecordWriter) {
        loop {
            let over = self.open.iter().enumerate().filter(|(_, stream)| stream.time.1 / 1000 <= until);
            let Some((at, _)) = over.min_by_key(|(_, stream)| stream.time.1) else { break };
            self.ms = self.ms.max(self.open[at].time.1 / 1000);
            self.end(at, writer);
        }
        self.ms = self.ms.max(until);
    }

    /// Opens a stream.
    fn open(&mut self, writer: &mut RecordWriter) {
        let now = self.ms * 1000 + self.below(1000);
        let is_new = self.below(10) == 0;
        let user = if is_new { 2000 + self.snapshot.totals.streams_total } else { self.below(self.regulars) };
        // Spread as a keyed hash is.
        let mixed = (user + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
        let (id, ip) = (UserChannelId::new(mixed as u32), std::net::Ipv4Addr::from((mixed >> 16) as u32));
        let addr = SocketAddr::new(ip.into(), 1024 + self.below(64_000) as u16);
        self.snapshot.totals.streams_total += 1;
        let number = self.snapshot.totals.streams_total;
        if !self.places.contains_key(&id) {
            self.users += 1;
            self.places.insert(id, self.snapshot.users.len());
            self.streams_of.remove(&id);
            self.snapshot.users.push(UserSnapshot {
                number: self.users,
                id,
                addr: addr.ip(),
                service: service(),
                connected_at: Duration::from_micros(now),
                down: 0,
                up: 0,
                streams_open: 0,
                streams_total: 0,
                limits: Default::default(),
            });
            self.last_seen.push(self.ms);
            self.event(writer, EventKind::UserJoined { user: id, addr: addr.ip(), service: service() });
        }
        let count = self.streams_of.entry(id).or_default();
        *count += 1;
        let key = StreamKey::new(id, *count);
        self.event(writer, EventKind::StreamOpened { key, addr, service: service() });
        let proxy = ProxyId(1 + self.below(3) as u32);
        self.event(writer, EventKind::StreamAssigned { key, proxy, name: name(proxy) });
        let size = self.logarithmic(20) + 40;
        let content = Content::Http {
            method: "GET".into(),
            target: format!("/assets/{}", self.below(200)).into(),
            status: Some(if self.below(20) == 0 { 404 } else { 200 }),
            body: Some(Progress { begun: 150 + self.below(4), size }),
        };
        let lasted = self.logarithmic(9) * 20_000 + self.below(1000);
        let up = 80 + self.below(400);
        let (bytes, time) = ((0, up), (now, now + lasted));
        self.open.push(Open { number, key, addr, proxy, time, content: Arc::new(content), bytes });
        self.count(id, proxy, (0, up), (1, 1));
    }

    /// Adds to the counters of all objects that count a stream.
    fn count(&mut self, user: UserChannelId, proxy: ProxyId, bytes: (u64, u64), streams: (i64, u64)) {
        let now = self.ms;
        let add = |counters: [&mut u64; 4]| {
            let [down, up, open, total] = counters;
            (*down, *up) = (*down + bytes.0, *up + bytes.1);
            (*open, *total) = (open.wrapping_add_signed(streams.0), *total + streams.1);
        };
        let state = &mut self.snapshot;
        if let Some(&at) = self.places.get(&user) {
            let user = &mut state.users[at];
            add([&mut user.down, &mut user.up, &mut user.streams_open, &mut user.streams_total]);
            self.last_seen[at] = now;
        }
        let service = &mut state.services[0];
        add([&mut service.down, &mut service.up, &mut service.streams_open, &mut service.streams_total]);
        let proxy = &mut state.proxies[proxy.0 as usize - 1];
        add([&mut proxy.down, &mut proxy.up, &mut proxy.streams_open, &mut proxy.streams_total]);
        let channel = &mut proxy.channels[(now % 2) as usize];
        (channel.sent, channel.received) =
            (channel.sent + bytes.1 + 40, channel.received + bytes.0 * 1001 / 1000 + 60);
        let totals = &mut state.totals;
        (totals.down, totals.up) = (totals.down + bytes.0, totals.up + bytes.1);
    }

    /// Ends a stream.
    fn end(&mut self, at: usize, writer: &mut RecordWriter) {
        let stream = self.open.swap_remove(at);
        let body = stream.content.body().unwrap();
        let is_whole = self.below(20) != 0;
        let down = if is_whole { body.begun + body.size } else { stream.bytes.0 + self.below(1000) };
        self.count(stream.key.user, stream.proxy, (down.saturating_sub(stream.bytes.0), 0), (-1, 0));
        if let Some(at) = self.snapshot.streams.iter().position(|row| row.number == stream.number) {
            self.snapshot.streams.swap_remove(at);
        }
        let reason = match self.below(1000) {
            0 => EndReason::ProxyGone,
            _ if is_whole => EndReason::Finished,
            _ => EndReason::UserSocketError,
        };
        let lasted = stream.time.1 - stream.time.0;
        let first_byte = Duration::from_micros(500 + self.below(lasted));
        let ended = EventKind::StreamEnded {
            key: stream.key,
            reason,
            shortfall: None,
            down,
            up: stream.bytes.1,
            addr: stream.addr,
            service: service(),
            proxy: Some(stream.proxy),
            proxy_name: Some(name(stream.proxy)),
            lasted: Duration::from_micros(lasted),
            time_to_first_byte: Some(first_byte),
            content: Some(stream.content),
        };
        self.event(writer, ended);
    }

    /// Removes users that have had no stream for a while.
    fn leave(&mut self, writer: &mut RecordWriter) {
        let (seen, now) = (std::mem::take(&mut self.last_seen), self.ms);
        let users = std::mem::take(&mut self.snapshot.users);
        self.places.clear();
        for (user, seen) in users.into_iter().zip(seen) {
            if user.streams_open == 0 && seen + USER_STAYS_MS < now {
                self.event(writer, EventKind::UserLeft { user: user.id });
            } else {
                self.places.insert(user.id, self.last_seen.len());
                self.snapshot.users.push(user);
                self.last_seen.push(seen);
            }
        }
    }

    /// Advances the downloads, and shows the open streams.
    fn carry(&mut self) {
        let now = self.ms * 1000;
        for at in 0..self.open.len() {
            let noise = self.below(200);
            let stream = &mut self.open[at];
            let (begin, end) = stream.time;
            let body = stream.content.body().unwrap();
            let share = (now - begin) as f64 / (end - begin) as f64;
            let down = (body.size as f64 * share) as u64 + noise;
            let grown = down.saturating_sub(stream.bytes.0);
            stream.bytes.0 += grown;
            let (user, proxy, bytes) = (stream.key.user, stream.proxy, stream.bytes);
            match self.snapshot.streams.iter_mut().find(|row| row.number == stream.number) {
                Some(row) => (row.down, row.up) = bytes,
                None => {
                    let opened_at = Duration::from_micros(begin);
                    let info =
                        StreamInfo { key: stream.key, addr: stream.addr, service: service(), opened_at };
                    let state = StreamState {
                        key: stream.key,
                        proxy: Some(proxy),
                        channel: Some(ChannelId { proxy, index: 1 + (begin % 2) as u16 }),
                        phase: StreamPhase::Open,
                        paused: false,
                        priority: Default::default(),
                        limits: Default::default(),
                        content: Some(stream.content.clone()),
                        progress: stream.content.body(),
                    };
                    let mut row = StreamSnapshot::new(Arc::new(info), stream.number, 4, state);
                    (row.down, row.up) = bytes;
                    self.snapshot.streams.push(row);
                }
            }
            self.count(user, proxy, (grown, 0), (0, 0));
        }
    }

    /// Measures channels and latencies.
    fn measure(&mut self) {
        let mut state = std::mem::take(&mut self.snapshot);
        state.uptime = Duration::from_millis(self.ms);
        state.totals.streams_open = self.open.len() as u64;
        state.totals.users_current = state.users.len() as u64;
        state.services[0].latency = Arc::new(self.latencies(state.totals.streams_total));
        for proxy in &mut state.proxies {
            proxy.latency = Arc::new(self.latencies(proxy.streams_total));
            for channel in &mut proxy.channels {
                channel.age = state.uptime;
                let rtt = Duration::from_micros(20_000 + self.below(3000));
                if self.below(5) == 0 {
                    channel.last_rtt = Some(rtt);
                    channel.rtt_summary = Arc::new(self.summary(self.ms / 5000));
                }
                channel.streams_open = proxy.streams_open / 2;
                channel.tcp = Some(TcpInfo {
                    smoothed_rtt: rtt,
                    rtt_deviation: Duration::from_micros(self.below(900)),
                    min_rtt: Duration::from_millis(20),
                    retransmitted_segments: self.ms / 60_000,
                    delivery_rate: 1_000_000 + self.below(1_000_000),
                    unsent_bytes: 0,
                    acknowledged_bytes: channel.sent,
                    last_ack_age: Duration::from_millis(self.below(50)),
                    received_segments: channel.received / 1400,
                    bytes_in_flight: self.below(3) * 1400,
                    congestion_window: 14_480,
                });
            }
        }
        self.snapshot = state;
    }

    /// Returns the latencies of so many streams.
    fn latencies(&mut self, streams: u64) -> Latencies {
        // Over the last 5 to 10 minutes.
        let count = streams.min(40_000);
        Latencies {
            connect: self.summary(count),
            time_to_first_byte: self.summary(count),
            queue_wait: self.summary(count),
        }
    }

    /// Returns percentiles of so many latencies.
    fn summary(&mut self, count: u64) -> LatencySummary {
        let mut percentile = |around: u64| Duration::from_micros(around + around / 64 * self.below(3));
        let (p50, p90, p99) = (percentile(22_000), percentile(40_000), percentile(180_000));
        let bars =
            std::array::from_fn(|bar| if (6..13).contains(&bar) { count / (bar as u64 - 3) } else { 0 });
        LatencySummary { count, p50, p90, p99, max: Duration::from_millis(5150), bars }
    }
}

/// Returns the service.
fn service() -> ServiceKey {
    "8080".parse().unwrap()
}

/// Returns the name of a proxy.
fn name(proxy: ProxyId) -> Arc<str> {
    format!("lab{}", proxy.0).into()
}

/// Returns a proxy with two channels.
fn proxy(id: ProxyId) -> ProxySnapshot {
    let addr = SocketAddr::from(([203, 0, 113, id.0 as u8], 50_000));
    let channels = (1..=2).map(|index| ChannelSnapshot {
        id: ChannelId { proxy: id, index },
        addr,
        format: ChannelFormat::Binary,
        age: Duration::ZERO,
        received: 0,
        sent: 0,
        last_rtt: None,
        rtt_summary: Arc::default(),
        streams_open: 0,
        state: ChannelState::Up,
        congestion_control: Some("cubic".into()),
        tcp: None,
        send_queue_bytes: 0,
        chunk_size: 16384,
    });
    ProxySnapshot {
        id,
        name: name(id),
        addr,
        connected_at: Duration::from_secs(1),
        services: vec![service()],
        down: 0,
        up: 0,
        streams_open: 0,
        streams_total: 0,
        weight: 1,
        draining: false,
        grace_remaining: None,
        limits: Default::default(),
        latency: Arc::default(),
        channels: channels.collect(),
    }
}
