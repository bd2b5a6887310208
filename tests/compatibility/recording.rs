//! Recordings in every version of their format play the same.

use std::path::Path;

use underpass::{
    recording::{Played, Player, Recording},
    telemetry::EventKind,
};

/// What was played of a recording.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// The number of states.
    states: usize,
    /// The number of events.
    events: usize,
    /// The number of log records.
    log_records: usize,
    /// Bytes of the downloads of the streams that ended, and the targets of their requests.
    ended: (u64, Vec<String>),
    /// How long the server had run for in the last state, in milliseconds, and the bytes of its downloads.
    last: (u128, u64),
}

/// Version 1 of the format has a line for each event, version 2 has columns, version 3 shorter ones. All files are of
/// the same server, with seven downloads by three users.
#[test]
fn recordings_of_version_0_1_play() {
    for file in ["recording-1.upr", "recording-2.upr", "recording-3.upr"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatibility/0.1").join(file);
        let recording = Recording::open(&[path]).unwrap();
        assert_eq!(recording.range(), (1_796_051_886_965, 1_796_051_909_710), "{file}");
        assert_eq!(recording.cut_files(), 0, "{file}");
        let mut seen = Seen::default();
        Player::new(recording).play(u64::MAX, || true, &mut |_, played| match played {
            Played::Snapshot(state) => {
                seen.states += 1;
                seen.last = (state.uptime.as_millis(), state.totals.down);
            }
            Played::Log(_) => seen.log_records += 1,
            Played::Event(event) => {
                seen.events += 1;
                if let EventKind::StreamEnded { down, content, .. } = event.kind {
                    seen.ended.0 += down;
                    seen.ended.1.push(content.unwrap().to_string());
                }
            }
            Played::Reset | Played::Missed(_) => {}
        });
        let targets = ["/f1", "/f2", "/f3", "/f4", "/f5", "/big", "/big"];
        let expected = Seen {
            states: 22,
            events: 39,
            log_records: 2,
            ended: (1_016_418, targets.iter().map(|target| format!("GET {target}")).collect()),
            last: (23_531, 1_016_418),
        };
        assert_eq!(seen, expected, "{file}");
    }
}

/// What happened in a file, as text.
fn told(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatibility/0.1").join(file);
    let mut told = Vec::new();
    Player::new(Recording::open(&[path]).unwrap()).play(u64::MAX, || true, &mut |at, played| match played {
        Played::Snapshot(state) => {
            let users = state.users.iter().map(|user| {
                let counters = (user.down, user.up, user.streams_open, user.streams_total);
                (user.number, user.id, user.addr, user.connected_at.as_millis(), counters)
            });
            let mut streams: Vec<_> = state.streams.iter().collect();
            streams.sort_by_key(|stream| stream.number);
            let streams = streams.into_iter().map(|stream| {
                let info = &stream.info;
                let opened = (info.key, info.addr, info.opened_at.as_millis());
                (stream.number, opened, stream.down, stream.up, &**stream)
            });
            let (users, streams): (Vec<_>, Vec<_>) = (users.collect(), streams.collect());
            told.push(format!("{at} {:?} {:?} {users:?} {streams:?}", state.uptime, state.totals));
        }
        Played::Event(event) => match event.kind {
            EventKind::StreamEnded { key, reason, down, up, addr, proxy, content, .. } => {
                told.push(format!("{at} {key} {reason:?} {down} {up} {addr} {proxy:?} {content:?}"));
            }
            kind => told.push(format!("{at} {kind:?}")),
        },
        other => told.push(format!("{at} {other:?}")),
    });
    told
}

/// Twelve seconds of ten streams a second by twenty users: version 3 tells the same as version 2, but for the digits of
/// times that it rounds off.
#[test]
fn columns_of_versions_2_and_3_tell_the_same() {
    let (two, three) = (told("recording-2-busy.upr"), told("recording-3-busy.upr"));
    assert_eq!(two.len(), three.len());
    assert!(two.len() > 300, "{}", two.len());
    for (two, three) in two.iter().zip(&three) {
        assert_eq!(two, three);
    }
}
