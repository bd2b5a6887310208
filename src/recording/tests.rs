//! What is recorded is played again, from any time on, also from files that are cut short; the disk may be full; the size is
//! bounded.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{
    recorder::{RecordWriter, RecorderOptions, write_items},
    *,
};
use crate::{
    feed::Missed,
    ids::{ProxyId, StreamKey, UserChannelId},
    telemetry::{
        Content, EndReason, Event, EventKind, LogLevel, LogRecord, Notable, Snapshot, StreamInfo,
        StreamPhase, StreamSnapshot, StreamState,
    },
};

/// When every recording here begins: 2026-11-30 12:00:00 UTC.
const BEGINS: u64 = 1_796_040_000_000;

/// A directory of its own, which is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("underpass-recording-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self, max_bytes: u64) -> RecorderOptions {
        RecorderOptions { dir: self.0.clone(), max_bytes, max_age: Duration::from_secs(7 * 86_400) }
    }

    fn files(&self) -> Vec<PathBuf> {
        reader::files_in(&self.0).unwrap()
    }

    fn size(&self) -> u64 {
        self.files().iter().map(|file| file.metadata().unwrap().len()).sum()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn header() -> FileHeader {
    FileHeader {
        underpass: "0.1.0".into(),
        recording: FileHeader::VERSION,
        boot: "0123456789abcdef".into(),
        listen: "0.0.0.0:7000".into(),
    }
}

/// A server with a given number of streams a second, in the time of the recording.
struct Server {
    /// Its state.
    snapshot: Snapshot,
    /// When its streams end, by index.
    ends: Vec<(u64, u64)>,
    /// The time, in milliseconds since the begin.
    ms: u64,
    /// The state of the generator of numbers.
    seed: u64,
}

impl Server {
    fn new() -> Self {
        Self { snapshot: Snapshot::default(), ends: Vec::new(), ms: 0, seed: 1 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % bound
    }

    /// Advances by a second in which `streams` open, and writes what happens. Most streams are short downloads of one of 200
    /// paths by one of 2,000 users; sizes and durations are spread evenly on a logarithmic scale.
    fn second(&mut self, streams: u64, writer: &mut RecordWriter) {
        let begin = self.ms;
        for index in 0..streams {
            self.ms = begin + index * 1000 / streams;
            self.open(writer);
        }
        self.ms = begin + 1000;
        self.end_streams(writer);
        let state = &mut self.snapshot;
        state.uptime = Duration::from_millis(self.ms);
        for stream in &mut state.streams {
            stream.down += 10_000 + stream.number * 7919 % 90_000;
        }
        state.totals.streams_open = state.streams.len() as u64;
        writer.state(&self.snapshot, BEGINS + self.ms);
    }

    fn open(&mut self, writer: &mut RecordWriter) {
        let user = self.below(2000);
        let addr: SocketAddr =
            format!("198.51.{}.{}:{}", user / 250, user % 250, 1024 + self.below(64_000)).parse().unwrap();
        self.snapshot.totals.streams_total += 1;
        let number = self.snapshot.totals.streams_total;
        let key = StreamKey::new(UserChannelId::new((user * 7_919_777) as u32), number as u32);
        let service: crate::ids::ServiceKey = "8080".parse().unwrap();
        self.event(writer, EventKind::StreamOpened { key, addr, service: service.clone() });
        let name: Arc<str> = "lab".into();
        let proxy = ProxyId(1 + self.below(3) as u32);
        self.event(writer, EventKind::StreamAssigned { key, proxy, name: name.clone() });
        let lasted = 20 << self.below(9);
        let (up, down) = (80 + self.below(400), 1u64 << (7 + self.below(14)));
        let down = down + self.below(down);
        let content = Content::Http {
            method: "GET".into(),
            target: format!("/assets/{}", self.below(200)).into(),
            status: Some(200),
            body: None,
        };
        let content = Some(Arc::new(content));
        if lasted < 1000 {
            let ended = EventKind::StreamEnded {
                key,
                reason: if self.below(1000) == 0 { EndReason::ProxyGone } else { EndReason::Finished },
                shortfall: None,
                down,
                up,
                addr,
                service,
                proxy: Some(proxy),
                proxy_name: Some(name),
                lasted: Duration::from_millis(lasted),
                time_to_first_byte: None,
                content,
            };
            self.event(writer, ended);
            return;
        }
        let info = StreamInfo { key, addr, service, opened_at: Duration::from_millis(self.ms) };
        let state = StreamState {
            key,
            proxy: Some(proxy),
            channel: None,
            phase: StreamPhase::Open,
            paused: false,
            priority: Default::default(),
            limits: Default::default(),
            content,
            progress: None,
        };
        self.snapshot.streams.push(StreamSnapshot::new(Arc::new(info), number, 1, state));
        self.ends.push((number, self.ms + lasted));
    }

    fn end_streams(&mut self, writer: &mut RecordWriter) {
        let mut at = 0;
        while at < self.ends.len() {
            if self.ends[at].1 > self.ms {
                at += 1;
                continue;
            }
            self.ends.swap_remove(at);
            let stream = self.snapshot.streams.swap_remove(at);
            let ended = EventKind::StreamEnded {
                key: stream.key,
                reason: EndReason::Finished,
                shortfall: None,
                down: stream.down,
                up: stream.up,
                addr: stream.info.addr,
                service: stream.info.service.clone(),
                proxy: stream.proxy,
                proxy_name: Some("lab".into()),
                lasted: Duration::from_millis(self.ms) - stream.info.opened_at,
                time_to_first_byte: None,
                content: stream.content.clone(),
            };
            self.event(writer, ended);
        }
    }

    fn event(&mut self, writer: &mut RecordWriter, kind: EventKind) {
        writer.event(Event { epoch_ms: BEGINS + self.ms, kind });
    }
}

/// Records a server with five streams a second. Returns its state after each second.
fn record(dir: &Dir, max_bytes: u64, seconds: u64) -> Vec<Snapshot> {
    let mut writer = RecordWriter::create(dir.options(max_bytes), header(), BEGINS).unwrap();
    let mut server = Server::new();
    let states = (0..seconds).map(|_| {
        server.second(5, &mut writer);
        server.snapshot.clone()
    });
    let states = states.collect();
    writer.close();
    states
}

fn sorted(snapshot: &Snapshot) -> Snapshot {
    let mut sorted = snapshot.clone();
    sorted.streams.sort_by_key(|stream| stream.number);
    sorted
}

/// Plays up to `until` and returns the last state.
fn play(player: &mut Player, until: u64) -> Option<Snapshot> {
    let mut last = None;
    let is_all = player.play(until, || true, &mut |at, played| {
        assert!(at <= until);
        if let Played::Snapshot(snapshot) = played {
            last = Some(sorted(snapshot));
        }
    });
    assert!(is_all);
    last
}

fn open(paths: &[PathBuf]) -> Player {
    Player::new(Recording::open(paths).unwrap())
}

#[test]
fn each_second_is_found_again_in_any_order() {
    let dir = Dir::new("seek");
    let states = record(&dir, 1 << 30, 400);
    let mut player = open(std::slice::from_ref(&dir.0));
    assert_eq!(player.recording().range(), (BEGINS, BEGINS + 400_000));
    assert!(player.recording().segments.len() >= 3, "{:?}", player.recording().segments);
    for second in [1u64, 399, 200, 61, 60, 59, 400, 2] {
        let time = BEGINS + second * 1000;
        player.seek(time);
        assert_eq!(play(&mut player, time), Some(sorted(&states[second as usize - 1])), "second {second}");
    }
    // And from there on, without a seek.
    assert_eq!(play(&mut player, BEGINS + 350_500), Some(sorted(&states[349])));
}

/// A crash, or a full disk, leaves a file without an end.
#[test]
fn a_file_that_is_cut_anywhere_plays_up_to_there() {
    let dir = Dir::new("cut");
    let states = record(&dir, 1 << 30, 130);
    let whole = fs::read(&dir.files()[0]).unwrap();
    let cut = dir.0.join("cut.upr");
    let mut played_seconds = Vec::new();
    for tenth in 1..=10 {
        fs::write(&cut, &whole[..whole.len() * tenth / 10]).unwrap();
        let mut player = open(std::slice::from_ref(&cut));
        assert_eq!(player.recording().cut_files(), usize::from(tenth < 10), "{tenth} tenths");
        let (begins, ends) = player.recording().range();
        assert_eq!(begins, BEGINS);
        let seconds = (ends - begins) / 1000;
        if seconds > 1 {
            // The events of a second precede its state, and the file may be cut between them.
            let played = play(&mut player, u64::MAX).unwrap();
            let possible = &states[seconds as usize - 2..seconds as usize];
            assert!(
                possible.iter().any(|state| sorted(state) == played),
                "{tenth} tenths: {:?}",
                played.uptime
            );
        }
        played_seconds.push(seconds);
    }
    assert!(played_seconds.is_sorted() && played_seconds[4] > 30, "{played_seconds:?}");
    assert_eq!(played_seconds[9], 130);
}

#[test]
fn damage_in_one_segment_leaves_the_others_readable() {
    let dir = Dir::new("damage");
    let states = record(&dir, 1 << 30, 200);
    let path = &dir.files()[0];
    let mut bytes = fs::read(path).unwrap();
    // In the middle of the first segment, behind its first block header.
    bytes[600..640].fill(0xAA);
    fs::write(path, bytes).unwrap();
    let mut player = open(std::slice::from_ref(path));
    assert_eq!(play(&mut player, u64::MAX), Some(sorted(&states[199])));
}

#[test]
fn what_is_no_recording_is_refused_with_its_name() {
    let dir = Dir::new("refused");
    fs::create_dir_all(&dir.0).unwrap();
    let error = |path: &Path| Recording::open(&[path.to_owned()]).unwrap_err().to_string();
    assert!(error(&dir.0).starts_with("no recording in "));
    assert!(error(&dir.0.join("missing")).starts_with("cannot read "));
    let text = dir.0.join("text.upr");
    fs::write(&text, "{}\n").unwrap();
    assert!(error(&text).ends_with("text.upr is not a recording"), "{}", error(&text));
    let later = FileHeader { recording: 9, underpass: "7.0.0".into(), ..header() };
    let path = dir.0.join("later.upr");
    let writer = writer::FileWriter::create(&path, &later, BEGINS).unwrap();
    writer.close().unwrap();
    assert!(error(&path).contains("version 9 of the format") && error(&path).contains("underpass 7.0.0"));
}

#[test]
fn the_next_notable_event_is_found_across_segments_that_have_none() {
    let dir = Dir::new("notable");
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    for second in 0..400 {
        if [250, 390].contains(&second) {
            server.event(&mut writer, EventKind::ServiceClosed { service: "8080".parse().unwrap() });
        }
        server.second(3, &mut writer);
    }
    writer.close();
    let player = open(std::slice::from_ref(&dir.0));
    let after = |seconds: u64| player.recording().next_notable(&[Notable::Service], BEGINS + seconds * 1000);
    assert_eq!(after(0), Some(BEGINS + 250_000));
    assert_eq!(after(250), Some(BEGINS + 390_000));
    assert_eq!(after(390), None);
}

/// The server that writes the recording deletes its oldest file at any time.
#[test]
fn a_file_that_was_deleted_meanwhile_does_not_hide_the_next_notable_event() {
    let dir = Dir::new("deleted");
    for begins in [0, 100] {
        let mut writer =
            RecordWriter::create(dir.options(1 << 30), header(), BEGINS + begins * 1000).unwrap();
        let mut server = Server::new();
        server.ms = begins * 1000;
        server.second(1, &mut writer);
        server.event(&mut writer, EventKind::ServiceClosed { service: "8080".parse().unwrap() });
        server.second(1, &mut writer);
        writer.close();
    }
    let recording = Recording::open(std::slice::from_ref(&dir.0)).unwrap();
    assert_eq!(recording.next_notable(&[Notable::Service], BEGINS), Some(BEGINS + 1000));
    fs::remove_file(&dir.files()[0]).unwrap();
    assert_eq!(recording.next_notable(&[Notable::Service], BEGINS), Some(BEGINS + 101_000));
}

#[test]
fn events_and_log_records_that_came_too_fast_are_counted_apart() {
    let dir = Dir::new("lagged");
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let (events, log) = (broadcast::Sender::new(2), broadcast::Sender::new(4));
    let (mut from_events, mut from_log) = (events.subscribe(), log.subscribe());
    let service: crate::ids::ServiceKey = "8080".parse().unwrap();
    for _ in 0..5 {
        let kind = EventKind::ServiceClosed { service: service.clone() };
        events.send(Event { epoch_ms: BEGINS, kind }).unwrap();
    }
    for _ in 0..11 {
        let (level, target) = (LogLevel::Info, "underpass".into());
        log.send(LogRecord { epoch_ms: BEGINS, level, target, text: String::new() }).unwrap();
    }
    writer.state(&Snapshot::default(), BEGINS);
    write_items(&mut writer, &mut from_events, RecordWriter::event, RecordWriter::miss_events);
    write_items(&mut writer, &mut from_log, RecordWriter::log, RecordWriter::miss_log);
    writer.state(&Snapshot::default(), BEGINS + 1000);
    writer.close();
    let (mut played, mut missed) = ((0, 0), Missed::default());
    open(std::slice::from_ref(&dir.0)).play(u64::MAX, || true, &mut |_, item| match item {
        Played::Event(_) => played.0 += 1,
        Played::Log(_) => played.1 += 1,
        Played::Missed(items) => missed = items,
        _ => {}
    });
    assert_eq!((played, missed), ((2, 4), Missed { events: 3, log: 7 }));
}

/// The oldest files are deleted, and none beyond the bound is begun.
#[test]
fn all_files_together_stay_below_the_bound() {
    let dir = Dir::new("bound");
    const MAX_BYTES: u64 = 200_000;
    let mut writer = RecordWriter::create(dir.options(MAX_BYTES), header(), BEGINS).unwrap();
    fs::write(dir.0.join("others.upr"), "kept").unwrap();
    let mut server = Server::new();
    for _ in 0..1500 {
        server.second(8, &mut writer);
        // What the compressor still holds comes at once.
        assert!(dir.size() <= MAX_BYTES + 64 * 1024, "{} bytes", dir.size());
    }
    writer.close();
    assert!(dir.files().len() > 5 && dir.size() > MAX_BYTES / 2, "{} bytes", dir.size());
    assert!(dir.0.join("others.upr").exists());
    fs::remove_file(dir.0.join("others.upr")).unwrap();
    let mut player = open(std::slice::from_ref(&dir.0));
    assert!(player.recording().range().0 > BEGINS);
    assert_eq!(play(&mut player, u64::MAX), Some(sorted(&server.snapshot)));
}

/// The server goes on; the recording continues when there is space again, and says what it lacks.
#[test]
fn a_directory_that_cannot_be_written_is_tried_again_after_a_minute() {
    let dir = Dir::new("full");
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    server.second(5, &mut writer);
    // As a write that fails does.
    writer.fail_for_test(BEGINS + server.ms);
    fs::remove_dir_all(&dir.0).unwrap();
    for _ in 0..90 {
        server.second(5, &mut writer);
    }
    assert!(!dir.0.exists());
    fs::create_dir_all(&dir.0).unwrap();
    for _ in 0..60 {
        server.second(5, &mut writer);
    }
    writer.close();
    let mut player = open(std::slice::from_ref(&dir.0));
    let (mut missed, mut last) = (0, None);
    player.play(u64::MAX, || true, &mut |_, played| match played {
        Played::Missed(items) => missed += items.events,
        Played::Snapshot(snapshot) => last = Some(sorted(snapshot)),
        _ => {}
    });
    assert_eq!(last, Some(sorted(&server.snapshot)));
    assert!(missed > 60 * 5 * 2, "{missed} events");
}

/// Two servers one after the other, or one that was restarted, are told apart.
#[test]
fn another_server_begins_with_a_reset() {
    let dir = Dir::new("boots");
    record(&dir, 1 << 30, 10);
    let other = FileHeader { boot: "fedcba9876543210".into(), ..header() };
    let mut writer = RecordWriter::create(dir.options(1 << 30), other, BEGINS + 20_000).unwrap();
    let mut server = Server::new();
    server.ms = 20_000;
    server.second(1, &mut writer);
    writer.close();
    let mut resets = Vec::new();
    let mut player = open(std::slice::from_ref(&dir.0));
    player.play(u64::MAX, || true, &mut |at, played| {
        if let Played::Reset = played {
            resets.push(at - BEGINS);
        }
    });
    assert_eq!(resets, [1000, 21_000]);
}

/// A day takes 547 MB, of which most is the random part of three events for each stream. Three minutes of it are recorded
/// here, and the whole day with `UNDERPASS_DAY=1`, which prints what it takes.
#[test]
fn a_hundred_streams_a_second_stay_below_600_mb_a_day() {
    let is_whole_day = std::env::var_os("UNDERPASS_DAY").is_some();
    let seconds = if is_whole_day { 86_400 } else { 180 };
    let dir = Dir::new("size");
    let began = Instant::now();
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    for _ in 0..seconds {
        server.second(100, &mut writer);
    }
    writer.close();
    let recorded = began.elapsed();
    let per_day = dir.size() * 86_400 / seconds;
    assert!(per_day < 600_000_000, "{per_day} bytes a day");
    if is_whole_day {
        let began = Instant::now();
        let mut player = open(std::slice::from_ref(&dir.0));
        let (opened, mut slowest) = (began.elapsed(), Duration::ZERO);
        for number in 0..50 {
            let time = BEGINS + 1000 * (number * 7919 % seconds);
            let began = Instant::now();
            player.seek(time);
            play(&mut player, time);
            slowest = slowest.max(began.elapsed());
        }
        println!(
            "recorded in {recorded:.1?}, {per_day} bytes, opened in {opened:.1?}, slowest of 50 seeks {slowest:.1?}"
        );
        assert!(opened < Duration::from_secs(1) && slowest < Duration::from_millis(300));
    }
}

#[test]
fn names_of_files_sort_by_time_and_are_dates() {
    let name = |at| retention::path_of(Path::new(""), at, 0).display().to_string();
    assert_eq!(name(0), "underpass-1970-01-01T000000Z.upr");
    assert_eq!(name(951_782_399_000), "underpass-2000-02-28T235959Z.upr");
    assert_eq!(name(951_782_400_000), "underpass-2000-02-29T000000Z.upr");
    assert_eq!(name(BEGINS), "underpass-2026-11-30T120000Z.upr");
    assert_eq!(name(4_107_542_399_999), "underpass-2100-02-28T235959Z.upr");
}
