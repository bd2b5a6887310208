//! What a day of a busy server takes: its size, and the times to open it and to move in it.

use std::time::{Duration, Instant};

use super::{server::Server, *};

/// Returns the memory that this process has in use, in bytes; 0 where the system is not Linux.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).map_or(0, |pages| pages.parse::<u64>().unwrap() * 4096)
}

/// A day takes 265 MB. Three minutes of it are recorded here, after the first one, in which all users join; and the
/// whole day with `UNDERPASS_DAY=1`, which prints what it takes.
#[test]
fn a_hundred_streams_a_second_stay_below_300_mb_a_day() {
    let is_whole_day = std::env::var_os("UNDERPASS_DAY").is_some();
    let seconds = if is_whole_day { 86_400 } else { 260 };
    let dir = Dir::new("size");
    let began = Instant::now();
    let mut writer = RecordWriter::create(dir.options(1 << 30), header(), BEGINS).unwrap();
    let mut server = Server::new();
    let mut size_after_a_minute = 0;
    for second in 0..seconds {
        if second == 60 {
            size_after_a_minute = dir.size();
        }
        server.second(100, &mut writer);
    }
    writer.close();
    let (recorded, size) = (began.elapsed(), dir.size());
    let per_day = (size - size_after_a_minute) * 86_400 / (seconds - 60);
    println!("recorded in {recorded:.1?}: {size} bytes, {per_day} a day");
    assert!(per_day < 300_000_000, "{per_day} bytes a day");
    let before = resident_bytes();
    let began = Instant::now();
    let mut player = open(std::slice::from_ref(&dir.0));
    let (opened, mut slowest) = (began.elapsed(), Duration::ZERO);
    for number in 0..50 {
        let second = 40 + number * 7919 % (seconds - 40);
        let time = BEGINS + 1000 * second;
        let began = Instant::now();
        player.seek(time);
        assert_eq!(play(&mut player, time).map(|state| state.uptime), Some(Duration::from_secs(second)));
        slowest = slowest.max(began.elapsed());
        if !is_whole_day {
            break;
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("opened in {opened:.1?}, slowest seek {slowest:.1?}, {grown} bytes of memory");
    if is_whole_day {
        assert!(opened < Duration::from_secs(1) && slowest < Duration::from_millis(300));
        assert!(grown < 100_000_000, "{grown} bytes of memory");
    }
}
