//! The real program over an emulated wide-area path: two network namespaces connected by `examples/wan`, kernel TCP at
//! both ends, with loss, reordering, duplication, a small MTU, an outage and a change of address.
//!
//! Namespaces and TUN devices need root. Where they are not permitted, these tests print so and pass.

#![allow(clippy::unwrap_used)]

mod emulator;
mod nat;
#[allow(dead_code, reason = "the program in examples/wan uses more of it")]
#[path = "../../examples/wan/rig/mod.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::time::{Duration, Instant};

use rig::{
    FAR, NEAR, Setup,
    emulator::{QueueLimit, Shape},
};
use support::promised_second;
use underpass::cli::demo::DemoFile;
use world::World;

/// RTT of all paths here.
const RTT: Duration = Duration::from_millis(40);

/// Rate of all paths here, in bits per second: little enough for a busy machine to emulate exactly.
const RATE: u64 = 50_000_000;

/// Least goodput of a download with 1 % loss and bbr. It is 0.9 of the rate on an idle machine.
const MIN_RATE_WITH_LOSS: f64 = 0.5 * RATE as f64;

/// Returns the parameters of a direction without faults.
fn clean() -> Shape {
    Shape {
        bits_per_second: RATE,
        delay: RTT / 2,
        jitter: Duration::ZERO,
        queue: QueueLimit::Time(Duration::from_millis(50)),
        loss: 0.0,
        reorder: 0.0,
        duplicate: 0.0,
        is_black_hole: false,
        blackout_until: Duration::ZERO,
    }
}

/// Returns parameters of a rig for the test of this name.
fn setup(test: &str) -> Setup {
    // Tests of two checkouts can run at the same time.
    let name = format!("underpass-{}-{test}", std::process::id());
    Setup { name, mtu: 1500, congestion: None, seed: 7 }
}

/// A controller that takes the delay of a retransmission for queueing delay shrinks its window with each loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_uses_the_link_despite_loss() {
    let file = DemoFile { seed: 1, size: 12_000_000 };
    let shape = Shape { loss: 0.01, ..clean() };
    let bbr = Setup { congestion: Some("bbr".into()), ..setup("loss") };
    let Some(world) = World::start(&bbr, &shape, file).await else { return };
    let begin = Instant::now();
    let arrivals = world.download().await;
    let rate = file.size as f64 * 8.0 / begin.elapsed().as_secs_f64();
    println!("{:.1} Mbit/s", rate / 1e6);
    assert!(arrivals.is_intact(file));
    // Without bbr in the kernel, TCP itself is slow here.
    assert!(
        world.congestion().is_none() || rate >= MIN_RATE_WITH_LOSS,
        "{:.1} Mbit/s: {}",
        rate / 1e6,
        world.output()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_intact_despite_reordering_duplication_and_a_small_mtu() {
    let file = DemoFile { seed: 2, size: 6_000_000 };
    let shape = Shape { reorder: 0.05, duplicate: 0.01, jitter: Duration::from_millis(1), ..clean() };
    let small = Setup { mtu: 1280, ..setup("reorder") };
    let Some(world) = World::start(&small, &shape, file).await else { return };
    let arrivals = world.download().await;
    assert!(arrivals.is_intact(file));
    let (_, [to_near, _]) = world.statistics();
    assert!(to_near.reordered > 50 && to_near.duplicated > 10, "too few faults: {to_near:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_continues_after_an_outage() {
    let file = DemoFile { seed: 3, size: 12_000_000 };
    let Some(world) = World::start(&setup("outage"), &clean(), file).await else { return };
    let outage = async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        let end = Instant::now() + OUTAGE;
        world.rig().black_out(OUTAGE);
        end
    };
    let (arrivals, end) = tokio::join!(world.download(), outage);
    assert!(arrivals.is_intact(file));
    // What arrived before is not counted, so that a download that was over already fails.
    let resumed = arrivals.first_after(end).expect("bytes after the outage");
    println!("{:.1} s after the outage, pauses {:?}", resumed.as_secs_f64(), arrivals.long_pauses());
    // 0.2 to 0.5 s in eight runs of this build.
    assert!(resumed <= RTT * 2 + promised_second(), "{resumed:?} after the outage: {}", world.output());
}

/// Regression test: the kernel counts a segment that it could not send as sent at each attempt, and never corrects
/// that. After the proxy's host had been without a route for a moment, data seemed to be unacknowledged for ever: the
/// proxy took its idle channels for dead, and dialled, twice a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_quiet_after_its_host_could_not_send() {
    let file = DemoFile { seed: 5, size: 12_000_000 };
    let Some(world) = World::start(&setup("route"), &clean(), file).await else { return };
    let route = |verb| world.rig().far.ip(&["route", verb, "unreachable", &format!("{NEAR}/32")]).unwrap();
    let outage = async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        route("add");
        tokio::time::sleep(Duration::from_millis(900)).await;
        route("del");
    };
    let (arrivals, ()) = tokio::join!(world.download(), outage);
    assert!(arrivals.is_intact(file));
    // Replacements that were being connected are given up once the answers to the pings have arrived.
    tokio::time::sleep(RTT * 10).await;
    let before = world.replacements();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.replacements(), before, "{}", world.output());
    assert!(!arrivals.long_pauses().is_empty(), "no outage: {}", world.output());
}

/// Duration of the outage.
const OUTAGE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_continues_after_the_proxy_has_changed_its_address() {
    let file = DemoFile { seed: 4, size: 12_000_000 };
    let Some(world) = World::start(&setup("address"), &clean(), file).await else { return };
    let change = async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        world.rig().far.ip(&["address", "del", &format!("{FAR}/24"), "dev", rig::namespace::DEVICE]).unwrap();
        Instant::now()
    };
    let (arrivals, changed) = tokio::join!(world.download(), change);
    assert!(arrivals.is_intact(file));
    // Packets that were sent from the old address still arrive.
    let resumed = arrivals.first_after(changed + RTT * 4).expect("bytes after the change");
    println!("{:.1} s after the change, pauses {:?}", resumed.as_secs_f64(), arrivals.long_pauses());
    // 0.74 to 0.77 s in six runs of a release build.
    assert!(resumed <= RTT * 2 + promised_second(), "{resumed:?} after the change: {}", world.output());
}
