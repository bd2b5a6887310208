//! What is recorded is played again, from any time on, also from files that are cut short; the disk may be full; the
//! size is bounded.

mod damage;
mod day;
mod packing;
mod rounded_times;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::broadcast;

use super::{
    recorder::{RecordWriter, RecorderOptions, write_items},
    *,
};
use crate::{
    feed::{Item, Missed},
    telemetry::{Event, EventKind, LogLevel, LogRecord, Notable, Snapshot},
};
use server::Server;

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

/// Records a server with five streams a second and few users. Returns its state after each second.
fn record(dir: &Dir, max_bytes: u64, seconds: u64) -> Vec<Snapshot> {
    let mut writer = RecordWriter::create(dir.options(max_bytes), header(), BEGINS).unwrap();
    let mut server = Server::new();
    server.regulars = 20;
    let states = (0..seconds).map(|_| {
        server.second(5, &mut writer);
        server.snapshot.clone()
    });
    let states = states.collect();
    writer.close();
    states
}

/// Returns a state as it is recorded: with its streams in order, rounded times, and without percentiles, which come
/// every ten seconds.
fn sorted(snapshot: &Snapshot) -> Snapshot {
    let mut item = Item::Snapshot(Box::new(snapshot.clone()));
    rounding::round(&mut item);
    let Item::Snapshot(mut sorted) = item else { unreachable!() };
    sorted.services.iter_mut().for_each(|service| service.latency = Arc::default());
    for proxy in &mut sorted.proxies {
        proxy.latency = Arc::default();
        proxy.channels.iter_mut().for_each(|channel| channel.rtt_summary = Arc::default());
    }
    *sorted
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
    server.regulars = 20;
    for _ in 0..500 {
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

#[test]
fn recordings_are_deleted_when_they_are_too_old() {
    let dir = Dir::new("age");
    let (day, now) = (Duration::from_secs(86_400), std::time::UNIX_EPOCH + Duration::from_millis(BEGINS));
    fs::create_dir_all(&dir.0).unwrap();
    for (name, age) in [("underpass-1.upr", 8 * day), ("underpass-2.upr", 6 * day), ("others.upr", 8 * day)] {
        fs::File::create(dir.0.join(name)).unwrap().set_modified(now - age).unwrap();
    }
    retention::prune(&dir.0, u64::MAX, 7 * day, BEGINS).unwrap();
    assert_eq!(dir.files(), ["others.upr", "underpass-2.upr"].map(|name| dir.0.join(name)));
}

/// The server goes on; the recording continues when there is space again, and says what it lacks. Both are reported
/// once, and no attempt leaves a file.
#[test]
fn a_directory_that_cannot_be_written_is_tried_again_every_ten_seconds() {
    let dir = Dir::new("full");
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    assert_eq!(server.second(5, &mut writer), None);
    // As a write that fails does.
    writer.fail_for_test(BEGINS + server.ms);
    fs::remove_dir_all(&dir.0).unwrap();
    let reports: Vec<_> = (0..85).filter_map(|_| server.second(5, &mut writer)).collect();
    let [EventKind::RecordingFailed { dir: named, reason }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((named, &reason[..]), (&dir.0.display().to_string(), "no storage space"));
    assert!(!dir.0.exists());
    fs::create_dir_all(&dir.0).unwrap();
    // The last attempt was five seconds ago.
    assert!((0..4).all(|_| server.second(5, &mut writer).is_none()));
    let reports: Vec<_> = (0..2).filter_map(|_| server.second(5, &mut writer)).collect();
    let [EventKind::RecordingContinued { missed_events, .. }] = reports[..] else { panic!("{reports:?}") };
    for _ in 0..50 {
        assert_eq!(server.second(5, &mut writer), None);
    }
    writer.close();
    assert_eq!(dir.files().len(), 1);
    let mut player = open(std::slice::from_ref(&dir.0));
    let (mut missed, mut last) = (0, None);
    player.play(u64::MAX, || true, &mut |_, played| match played {
        Played::Missed(items) => missed += items.events,
        Played::Snapshot(snapshot) => last = Some(sorted(snapshot)),
        _ => {}
    });
    assert_eq!(last, Some(sorted(&server.snapshot)));
    assert!(missed > 60 * 5 * 2 && missed >= missed_events, "{missed} events, {missed_events} reported");
}

/// The kernel accepts what is written to a deleted file, for as long as the process has it open.
#[test]
fn a_recording_that_is_deleted_is_reported_within_ten_seconds() {
    for deletes_directory in [true, false] {
        let dir = Dir::new("deleted");
        let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
        let mut server = Server::new();
        for _ in 0..20 {
            assert_eq!(server.second(5, &mut writer), None);
        }
        let file = dir.files()[0].display().to_string();
        match deletes_directory {
            true => fs::remove_dir_all(&dir.0).unwrap(),
            false => fs::remove_file(&file).unwrap(),
        }
        let report = (0..10).find_map(|_| server.second(0, &mut writer));
        let Some(EventKind::RecordingFailed { reason, .. }) = report else { panic!("{report:?}") };
        assert_eq!(reason, format!("{file} was deleted or replaced"));
        // A file that takes the place of the deleted one is left alone.
        _ = fs::create_dir(&dir.0);
        let report = (0..11).find_map(|_| server.second(0, &mut writer));
        assert!(matches!(report, Some(EventKind::RecordingContinued { .. })), "{report:?}");
        assert_eq!(dir.files().len(), 1);
    }
}

/// An idle server writes little: its lines would fit into the last block of the file for minutes.
#[test]
fn a_file_system_without_space_is_a_failure_before_a_write_fails() {
    assert!(recorder::check_space(Path::new("/")).is_ok());
    // Its files take no block, and statfs(2) says that it has none in all.
    assert!(recorder::check_space(Path::new("/proc")).is_ok());
    let missing = recorder::check_space(Path::new("/proc/none")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
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

#[test]
fn names_of_files_sort_by_time_and_are_dates() {
    let name = |at| retention::path_of(Path::new(""), at, 0).display().to_string();
    assert_eq!(name(0), "underpass-1970-01-01T000000Z.upr");
    assert_eq!(name(951_782_399_000), "underpass-2000-02-28T235959Z.upr");
    assert_eq!(name(951_782_400_000), "underpass-2000-02-29T000000Z.upr");
    assert_eq!(name(BEGINS), "underpass-2026-11-30T120000Z.upr");
    assert_eq!(name(4_107_542_399_999), "underpass-2100-02-28T235959Z.upr");
}
