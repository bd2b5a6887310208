//! Files that are damaged, contradict themselves, or were recorded while the clock was set.

use std::io::Write as _;

use super::{server::Server, *};
use crate::recording::frames::{Frame, Mark, frames};

/// Writes a file with one segment of this text.
fn write_segment(path: &Path, text: &str) {
    write_segment_with_window(path, text, 22);
}

/// Writes a file with one segment of this text, for which a reader needs `1 << window_log` bytes.
fn write_segment_with_window(path: &Path, text: &str, window_log: u32) {
    let mut file = fs::File::create(path).unwrap();
    Mark { begins: Some(BEGINS), ..Mark::default() }.write(&mut file).unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(&file, 3).unwrap();
    encoder.window_log(window_log).unwrap();
    writeln!(encoder, "{}\n{text}", serde_json::to_string(&header()).unwrap()).unwrap();
    encoder.finish().unwrap();
    Mark { ends: Some(BEGINS + 1000), ..Mark::default() }.write(&mut file).unwrap();
}

/// Returns how many items a file plays, or 0 if none can be read.
fn played(path: &PathBuf) -> usize {
    let Ok(recording) = Recording::open(std::slice::from_ref(path)) else { return 0 };
    let mut played = 0;
    Player::new(recording).play(u64::MAX, || true, &mut |_, item| {
        played += usize::from(!matches!(item, Played::Reset));
    });
    played
}

/// Whatever byte is changed, the segments that do not contain it are played.
#[test]
fn a_changed_byte_leaves_the_other_segments_readable() {
    let dir = Dir::new("flipped");
    record(&dir, 1 << 30, 150);
    let path = dir.files().remove(0);
    let whole = fs::read(&path).unwrap();
    let states = |path: &PathBuf| {
        let (mut states, mut last) = (0, 0);
        if let Ok(recording) = Recording::open(std::slice::from_ref(path)) {
            Player::new(recording).play(u64::MAX, || true, &mut |at, played| {
                assert!(at >= last, "time goes back");
                last = at;
                states += usize::from(matches!(played, Played::Snapshot(_)));
            });
        }
        states
    };
    let all = states(&path);
    assert!(all >= 150, "{all}");
    for number in 0..12 {
        let mut bytes = whole.clone();
        let at = 400 + number * 7919 * 31 % (bytes.len() - 400);
        bytes[at] ^= 1 << (number % 8);
        fs::write(&path, bytes).unwrap();
        let played = states(&path);
        assert!(played <= all + 1, "{played} states with a changed byte at {at}");
    }
}

/// The columns of a batch can refer to nothing, have any numbers and stand for more than they contain.
#[test]
fn batches_that_contradict_themselves_end_the_segment() {
    let dir = Dir::new("contradiction");
    fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("contradiction.upr");
    let state = format!(r#""state":{{"at":{},"seq":1,"snapshot":{{"uptime_us":5}}}}"#, BEGINS + 500);
    let user = r#""joined":{"id":[7],"service":[0]},"new":{"addrs":["192.0.2.1"],"services":["80:default"]}"#;
    for (batch, expected) in [
        (r#""kinds":"o","opened":{"user":[1]}"#.to_owned(), 0),
        (r#""kinds":"e","ended":{"age":[9223372036854775807]}"#.to_owned(), 0),
        (r#""kinds":"a","assigned":{"age":[-9223372036854775808]}"#.to_owned(), 0),
        (r#""kinds":"ss""#.to_owned() + "," + &state, 1),
        (r#""kinds":"..""#.to_owned(), 0),
        (r#""kinds":"é?""#.to_owned(), 0),
        (format!(r#""kinds":"s","streams":{{"age":[0,0,0]}},{state}"#), 0),
        (format!(r#""kinds":"s","users":{{"place":[-2]}},{state}"#), 0),
        (format!(r#""kinds":"joo","times":[0,9223372036854775807,-5],{user},"opened":{{"stream":[9]}}"#), 3),
        (format!(r#""kinds":"jo",{user},"opened":{{"port":[65536]}}"#), 1),
        (format!(r#""kinds":"joe",{user},"ended":{{"lasted":[-9223372036854775808],"content":[-2]}}"#), 2),
        (format!(r#""kinds":"j{}",{user}"#, "o".repeat(3_000_000)), 5000),
    ] {
        write_segment(&path, &format!("{{\"batch\":{{\"seq\":1,{batch}}}}}\n"));
        let mut played = 0;
        let mut steps = 0;
        let mut player = open(std::slice::from_ref(&path));
        let mut may_continue = || {
            steps += 1;
            steps <= 5000
        };
        player.play(u64::MAX, &mut may_continue, &mut |_, item| {
            played += usize::from(!matches!(item, Played::Reset));
        });
        let batch = &batch[..batch.len().min(80)];
        assert_eq!(played, expected, "{batch}");
    }
}

/// While the clock is behind, states are written and reach the disk as before: a segment begins.
#[test]
fn a_clock_that_was_set_back_loses_nothing() {
    let dir = Dir::new("back");
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    let mut at = BEGINS;
    for second in 0..60 {
        at = if second == 30 { at - 3_600_000 } else { at + 1000 };
        server.snapshot.uptime = Duration::from_secs(second);
        writer.state(&server.snapshot, at);
    }
    // As if the program was killed.
    std::mem::forget(writer);
    let mut seconds = std::collections::BTreeSet::new();
    open(std::slice::from_ref(&dir.0)).play(u64::MAX, || true, &mut |_, played| {
        if let Played::Snapshot(state) = played {
            seconds.insert(state.uptime.as_secs());
        }
    });
    // What was not flushed in the last five seconds is missing.
    assert!(seconds.len() >= 54 && seconds.contains(&54), "{seconds:?}");
}

/// Files of two servers that ran at the same time: each change from one to the other is a reset.
#[test]
fn recordings_of_two_servers_at_the_same_time_are_kept_apart() {
    let dir = Dir::new("mixed");
    for (boot, uptime) in [("aaaaaaaaaaaaaaaa", 0), ("bbbbbbbbbbbbbbbb", 5000)] {
        let header = FileHeader { boot: boot.into(), ..header() };
        let mut writer = RecordWriter::create(dir.options(1 << 30), header, BEGINS + uptime).unwrap();
        let mut server = Server::new();
        for second in 0..700 {
            server.snapshot.uptime = Duration::from_secs(uptime + second);
            writer.state(&server.snapshot, BEGINS + uptime + second * 1000);
        }
        writer.close();
    }
    let (mut is_second, mut is_fresh, mut states) = (None, false, 0);
    open(std::slice::from_ref(&dir.0)).play(u64::MAX, || true, &mut |_, played| match played {
        Played::Reset => is_fresh = true,
        Played::Snapshot(state) => {
            let is_of_second = state.uptime >= Duration::from_secs(5000);
            assert!(is_second == Some(is_of_second) || is_fresh, "another server without a reset");
            (is_second, is_fresh, states) = (Some(is_of_second), false, states + 1);
        }
        _ => {}
    });
    assert_eq!(states, 1400);
}

/// Each block that precedes the damage is played: zstd returns nothing of what it was given at once where the damage
/// is.
#[test]
fn a_small_file_plays_up_to_where_it_is_damaged() {
    let dir = Dir::new("damaged");
    record(&dir, 1 << 30, 40);
    let path = dir.files().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 32].fill(b'A');
    fs::write(&path, bytes).unwrap();
    let mut states = 0;
    open(std::slice::from_ref(&path)).play(u64::MAX, || true, &mut |_, played| {
        states += usize::from(matches!(played, Played::Snapshot(_)));
    });
    assert!((10..40).contains(&states), "{states}");
}

/// A forged file decides neither how much memory its reader takes nor how long it reads.
#[test]
fn a_segment_ends_where_it_asks_for_too_much_memory() {
    let dir = Dir::new("memory");
    fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("memory.upr");
    let (line, batch) = (r#"{"seq":1,"missed":{"events":1}}"#, r#"{"batch":{"seq":1,"kinds":"."}}"#);
    // One line.
    for (mib, expected) in [(63, 1), (64, 0)] {
        write_segment(&path, &format!("{line}{}\n{batch}", " ".repeat(mib << 20)));
        assert_eq!(played(&path), expected, "a line of {mib} MiB");
    }
    // Lines that wait for the batch that tells their time.
    for (lines, expected) in [(1 << 17, 1), ((1 << 17) + 1, 0)] {
        write_segment(&path, &format!("{}{batch}", format!("{line}\n").repeat(lines)));
        assert_eq!(played(&path), expected, "{lines} lines");
    }
    // What the decompressor keeps.
    for (window_log, expected) in [(25, 1), (26, 0)] {
        write_segment_with_window(&path, &format!("{line}\n{batch}"), window_log);
        assert_eq!(played(&path), expected, "a window of 2^{window_log} bytes");
    }
    // The rows of a state; the user that has joined is played before.
    let state = format!(r#""state":{{"at":{},"seq":1,"snapshot":{{"uptime_us":5}}}}"#, BEGINS + 500);
    let user = r#""joined":{"id":[7],"service":[0]},"new":{"addrs":["192.0.2.1"],"services":["80:default"]}"#;
    for (rows, expected) in [(1 << 17, 2), ((1 << 17) + 1, 1)] {
        let users = format!(r#""users":{{"place":[0{}]}}"#, ",0".repeat(rows - 1));
        write_segment(&path, &format!(r#"{{"batch":{{"seq":1,"kinds":"js",{user},{users},{state}}}}}"#));
        assert_eq!(played(&path), expected, "{rows} rows");
    }
}

#[test]
fn long_marks_and_further_frames_are_not_read() {
    let dir = Dir::new("marks");
    fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("marks.upr");
    let skippable = |content: &[u8]| {
        [&0x184D_2A57_u32.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat()
    };
    let mark = Mark { begins: Some(BEGINS), ..Mark::default() };
    let json = serde_json::to_string(&mark).unwrap();
    for (length, expected) in [(64 << 10, mark), ((64 << 10) + 1, Mark::default())] {
        let content = " ".repeat(length - json.len()) + &json;
        fs::write(&path, skippable(content.as_bytes())).unwrap();
        assert_eq!(frames(&fs::File::open(&path).unwrap()).unwrap(), [Frame::Mark(expected)]);
    }
    fs::write(&path, skippable(b"").repeat(1_000_010)).unwrap();
    assert_eq!(frames(&fs::File::open(&path).unwrap()).unwrap().len(), 1_000_000);
}
