//! Lines that were packed into batches are the same when they are unpacked, also where they contradict each other.

use proptest::prelude::*;

use super::{server::Server, *};
use crate::{
    feed::Line,
    recording::{batch::BatchLine, pack::Packer, unpack::Unpacker},
};

/// Passes lines through the text of a batch.
fn carried(packer: &mut Packer, unpacker: &mut Unpacker, lines: Vec<Line>) -> Vec<Line> {
    let (unpacked, batch) = packer.pack(lines);
    let unpacked = unpacked.iter().map(|line| Line::parse(&line.to_json().unwrap()).unwrap()).collect();
    let text = serde_json::to_vec(&BatchLine { batch }).unwrap();
    let BatchLine { batch } = serde_json::from_slice(&text).unwrap();
    unpacker.begin(unpacked, batch);
    std::iter::from_fn(|| unpacker.next_line().unwrap()).collect()
}

/// Returns the lines of a recorded server, second by second.
fn recorded_lines(seconds: u64, streams: u64) -> Vec<Vec<Line>> {
    let dir = Dir::new(&format!("lines-{seconds}-{streams}"));
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    server.regulars = 20;
    for _ in 0..seconds {
        server.second(streams, &mut writer);
    }
    writer.close();
    let recording = Recording::open(std::slice::from_ref(&dir.0)).unwrap();
    let mut lines: Vec<Vec<Line>> = vec![Vec::new()];
    for line in recording.lines(0).unwrap() {
        let is_state = line.at.is_some();
        lines.last_mut().unwrap().push(line);
        if is_state {
            lines.push(Vec::new());
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is missing, repeated or in another order: what is not as expected is written as it is.
    #[test]
    fn unpacked_lines_are_those_that_were_packed(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8), 0..60),
    ) {
        let mut lines = recorded_lines(12, 10);
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::new(FileHeader::VERSION));
        for (at, change) in changes {
            let second = at.index(lines.len());
            let events = lines[second].iter().filter(|line| line.event().is_some()).count();
            if events > 1 {
                let (at, other) = (at.index(events), at.index(events - 1));
                match change {
                    0 => { lines[second].remove(at); }
                    1 => { let line = lines[second][at].clone(); lines[second].insert(other, line); }
                    2 => lines[second].swap(at, other),
                    _ => {
                        let line = lines[second].remove(at);
                        let later = (second + 1) % lines.len();
                        lines[later].insert(0, line);
                    }
                }
            }
        }
        let mut seq = 0;
        for mut lines in lines {
            for line in &mut lines {
                seq += 1;
                line.seq = seq;
            }
            let unpacked = carried(&mut packer, &mut unpacker, lines.clone());
            prop_assert_eq!(unpacked, lines);
        }
    }
}
