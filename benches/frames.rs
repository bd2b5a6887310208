//! Measures the cost of the cockpit's frames with up to 100,000 streams: `cargo bench --bench frames`.
//!
//! Uses no benchmark framework, because the goals are 99th percentiles and shares of a core, which frameworks that
//! report means do not give. Times are CPU times of the thread, so that other load on the machine does not count; the
//! last column is the ratio of wall-clock time to CPU time.

// A benchmark whose own set-up fails must abort.
#![allow(clippy::expect_used)]

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use underpass::{
    ids::{ChannelId, Group, ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{ChannelFormat, StreamGuard, StreamPhase, Telemetry, UserGuard},
    tui::probe::Probe,
};

/// The number of ticks that are measured.
const TICKS: usize = 300;
/// The number of ticks before them, which are not measured.
const WARM_UP_TICKS: usize = 30;
/// The size of the screen, in columns.
const SCREEN_WIDTH: u16 = 120;
/// The size of the screen, in rows.
const SCREEN_HEIGHT: u16 = 36;

fn main() {
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9}",
        "streams",
        "collect",
        "digest",
        "digest",
        "frame",
        "frame",
        "tick",
        "tick",
        "of a core",
        "bytes",
        "wall"
    );
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9}",
        "", "p50", "p50", "p99", "p50", "p99", "p50", "p99", "10 a sec.", "p50", "/ CPU"
    );
    for streams in [0, 1_000, 10_000, 100_000] {
        measure(streams);
    }
}

/// Measures the ticks of a cockpit with `count` streams and prints one row.
fn measure(count: u32) {
    let telemetry = Telemetry::new();
    let service = telemetry.service_opened(ServiceKey { port: 8080, group: Group::default() });
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
    let proxies: Vec<_> = (1..=4)
        .map(|id| {
            let proxy = telemetry.proxy_up(ProxyId(id), format!("edge-{id}"), addr);
            proxy.registered(service.stats().key.clone());
            let id = ChannelId { proxy: ProxyId(id), index: 1 };
            (proxy, telemetry.channel_up(id, addr, ChannelFormat::Binary))
        })
        .collect();
    let mut probe = Probe::new(telemetry.clone(), SCREEN_WIDTH, SCREEN_HEIGHT);
    let mut users: Vec<UserGuard> = Vec::new();
    let mut streams: Vec<StreamGuard> = (0..count)
        .map(|i| {
            if i % 10 == 0 {
                users.push(telemetry.user_joined(UserChannelId::new(i), addr.ip(), service.stats()));
            }
            open_stream(&telemetry, users.last(), i, &proxies)
        })
        .collect();
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut bytes = Vec::new();
    let (mut cpu, mut wall) = (Duration::ZERO, Duration::ZERO);
    let mut begun = count;
    for tick in 0..WARM_UP_TICKS + TICKS {
        // In each tick a third of the streams transfers data, and one of a thousand ends and is replaced.
        for (i, stream) in streams.iter().enumerate().filter(|(i, _)| (i + tick) % 3 == 0) {
            stream.stats().add_down(1000 + (i as u64 * 7919) % 1_000_000);
        }
        for _ in 0..count.div_ceil(1000) {
            let at = (begun as usize * 31) % streams.len();
            streams.swap_remove(at).end(underpass::telemetry::EndReason::Finished);
            streams.push(open_stream(&telemetry, users.last(), begun, &proxies));
            begun += 1;
        }
        let mut written = 0;
        let steps = [
            timed(|| probe.collect()),
            timed(|| probe.digest()),
            timed(|| written = black_box(probe.frame()).len()),
        ];
        if tick >= WARM_UP_TICKS {
            for (list, (cpu_time, wall_time)) in times.iter_mut().zip(steps) {
                list.push(cpu_time);
                (cpu, wall) = (cpu + cpu_time, wall + wall_time);
            }
            times[3].push(steps.iter().map(|(cpu_time, _)| *cpu_time).sum());
            bytes.push(written);
        }
    }
    let mean = times[3].iter().sum::<Duration>() / TICKS as u32;
    bytes.sort_unstable();
    println!(
        "{count:>8} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.2}% {:>9} {:>8.1}×",
        percentile(&mut times[0], 50),
        percentile(&mut times[1], 50),
        percentile(&mut times[1], 99),
        percentile(&mut times[2], 50),
        percentile(&mut times[2], 99),
        percentile(&mut times[3], 50),
        percentile(&mut times[3], 99),
        mean.as_secs_f64() * 10.0 * 100.0,
        bytes[bytes.len() / 2],
        wall.as_secs_f64() / cpu.as_secs_f64(),
    );
}

/// Runs `work`. Returns its CPU time and its wall-clock time.
fn timed(work: impl FnOnce()) -> (Duration, Duration) {
    let (start, before) = (Instant::now(), thread_cpu_time());
    work();
    (thread_cpu_time() - before, start.elapsed())
}

/// The CPU time of this thread.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a thread's time is not negative")
}

/// Opens the stream with this number for `user`, on one of `proxies`.
fn open_stream(
    telemetry: &Arc<Telemetry>,
    user: Option<&UserGuard>,
    number: u32,
    proxies: &[(underpass::telemetry::ProxyGuard, underpass::telemetry::ChannelGuard)],
) -> StreamGuard {
    let user = user.expect("there is a user before its streams").stats();
    let addr = SocketAddr::new(user.addr, number as u16);
    let stream = telemetry.stream_opened(StreamKey::new(user.id, number), addr, user);
    let (proxy, channel) = &proxies[number as usize % proxies.len()];
    stream.assigned(proxy.stats(), channel.stats());
    stream.stats().set_phase(StreamPhase::Open);
    stream.stats().set_total_size(1 << 30);
    stream
}

/// Returns the time that `percent` of the sorted times do not exceed.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
