//! What the cockpit costs: `cargo bench --bench frames`.
//!
//! No framework: the bars are 99th percentiles and shares of a core, and those that measure means do not tell them.
//! Times are those for which the thread had a core: a busy machine says nothing about this code. How much longer the
//! clock on the wall ran stands in the last column.

// A bench that finds its own set-up wrong shall end.
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

/// How many ticks are measured, and how many come before them.
const TICKS: usize = 300;
const WARM: usize = 30;
const SIZE: (u16, u16) = (120, 36);

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
        "", "p50", "p50", "p99", "p50", "p99", "p50", "p99", "10 a sec.", "p50", "by core"
    );
    for streams in [0, 1_000, 10_000, 100_000] {
        measure(streams);
    }
}

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
    let mut probe = Probe::new(telemetry.clone(), SIZE.0, SIZE.1);
    let mut users: Vec<UserGuard> = Vec::new();
    let mut streams: Vec<StreamGuard> = (0..count)
        .map(|i| {
            if i % 10 == 0 {
                users.push(telemetry.user_joined(UserChannelId::new(i), addr.ip(), service.stats()));
            }
            open(&telemetry, users.last(), i, &proxies)
        })
        .collect();
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut bytes = Vec::new();
    let (mut core, mut wall) = (Duration::ZERO, Duration::ZERO);
    let mut begun = count;
    for tick in 0..WARM + TICKS {
        // A third of the streams moves, and in a second one of a hundred ends and another one begins.
        for (i, stream) in streams.iter().enumerate().filter(|(i, _)| (i + tick) % 3 == 0) {
            stream.stats().add_down(1000 + (i as u64 * 7919) % 1_000_000);
        }
        for _ in 0..count.div_ceil(1000) {
            let at = (begun as usize * 31) % streams.len();
            streams.swap_remove(at).end(underpass::telemetry::EndReason::Finished);
            streams.push(open(&telemetry, users.last(), begun, &proxies));
            begun += 1;
        }
        let mut written = 0;
        let steps = [
            timed(|| probe.collect()),
            timed(|| probe.digest()),
            timed(|| written = black_box(probe.frame()).len()),
        ];
        if tick >= WARM {
            for (list, (had, took)) in times.iter_mut().zip(steps) {
                list.push(had);
                (core, wall) = (core + had, wall + took);
            }
            times[3].push(steps.iter().map(|(had, _)| *had).sum());
            bytes.push(written);
        }
    }
    let mean = times[3].iter().sum::<Duration>() / TICKS as u32;
    bytes.sort_unstable();
    println!(
        "{count:>8} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.2}% {:>9} {:>8.1}×",
        share(&mut times[0], 50),
        share(&mut times[1], 50),
        share(&mut times[1], 99),
        share(&mut times[2], 50),
        share(&mut times[2], 99),
        share(&mut times[3], 50),
        share(&mut times[3], 99),
        mean.as_secs_f64() * 10.0 * 100.0,
        bytes[bytes.len() / 2],
        wall.as_secs_f64() / core.as_secs_f64(),
    );
}

/// For how long something had a core, and how long it took.
fn timed(what: impl FnOnce()) -> (Duration, Duration) {
    let (start, before) = (Instant::now(), core_time());
    what();
    (core_time() - before, start.elapsed())
}

fn core_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a thread's time is not negative")
}

fn open(
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

fn share(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
