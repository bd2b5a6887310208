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

/// Version 1 of the format has a line for each event, version 2 has columns. Both files are of the same server, with
/// seven downloads by three users.
#[test]
fn recordings_of_version_0_1_play() {
    for file in ["recording-1.upr", "recording-2.upr"] {
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
