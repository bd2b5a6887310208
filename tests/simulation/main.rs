//! Fault simulation of the whole tunnel: a server, its proxies and their users run in one process, and every channel
//! goes through a relay. A script generated from a seed resets, closes, truncates, stalls, delays, corrupts and refuses
//! connections, crashes proxies, restarts the server, lets the operator kill and pause streams, lets users and targets
//! reset, and blocks threads. Every transfer is complete or fails visibly at both ends, and at the end no resource is
//! left in use.
//!
//! One seed in three is gentle: none of its faults may end a stream, so that every transfer has to be complete.
//!
//! `UNDERPASS_SEED=7 cargo test --test simulation` repeats one seed: the same participants and the same faults, each
//! after the same number of transferred bytes. The kernel's scheduling is not repeated, so that a failure may need
//! several attempts. `UNDERPASS_SEEDS=20000` runs more than the usual 500 seeds.
//!
//! # Why not turmoil
//!
//! Its sockets lack what the tunnel is built on. `turmoil::net::TcpStream` (0.7) and that of `turmoil-net` (0.1) have
//! neither `try_io`, `try_write_vectored` nor `try_read_buf`, which the channel driver and the stream pump use; neither
//! exposes a descriptor, which socket2 needs for SO_LINGER, TCP_USER_TIMEOUT, keepalive, half-close and TCP_INFO;
//! neither can be created with `from_std`, which moves a connection to another worker thread. One of them also requires
//! all hosts to run on the thread of its simulation. With turmoil, the product would need a layer above its sockets for
//! the test alone, and that layer would hide what is left to simulate: the logic below it has no socket and no clock
//! and is simulated in virtual time (`tests/mux`), while an RST that overtakes data, a FIN after missing data and
//! kernel buffers exist with real sockets only.
//!
//! # Clocks
//!
//! Timeouts use the monotonic clock. `architecture::only_timestamps_and_the_screen_read_the_wall_clock` checks that the
//! wall clock is only displayed, and `hostile::machine::wall_clock_jumps_affect_the_log_only` changes it. A jump of the
//! monotonic clock means that a process wakes up late with many timers due at once: here a thread is blocked, and
//! `tests/chaos` stops whole processes.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod script;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod users;
mod world;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use script::Script;
use tally::Tally;
use tokio::runtime::Builder;
use world::World;

/// Default number of seeds.
const SEEDS: u64 = 500;

/// Number of seeds that run in parallel. Each of them mostly waits.
const AT_ONCE: usize = 12;

/// Timeout of one seed, also on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Reads a number from an environment variable.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a script to its end on its own threads.
fn play(script: &Script) -> Tally {
    let mut builder = match script.threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let name = format!("seed {}", script.seed);
    let runtime = builder.worker_threads(2).thread_name(name).enable_all().build().unwrap();
    runtime.block_on(async {
        let played = tokio::time::timeout(TOO_LONG, World::play(script)).await;
        played.unwrap_or_else(|_| panic!("the simulation hangs"))
    })
}

#[test]
fn every_transfer_is_complete_or_fails_visibly() {
    let seeds = match setting("UNDERPASS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("UNDERPASS_SEEDS").unwrap_or(SEEDS),
    };
    let (all, begin) = (seeds.end - seeds.start, Instant::now());
    let next = AtomicU64::new(seeds.start);
    let (tally, failed) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, SeqCst)
                    && seeds.contains(&seed)
                {
                    let script = Script::of(seed);
                    match panic::catch_unwind(AssertUnwindSafe(|| play(&script))) {
                        Ok(played) => tally.lock().unwrap().add(&played),
                        Err(_) => {
                            println!("UNDERPASS_SEED={seed} failed: {script:#?}");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{all} seeds in {:.1?}\n{tally}", begin.elapsed());
    assert_eq!(failed.into_inner().unwrap(), Vec::<u64>::new(), "these seeds failed");
    if all >= SEEDS {
        tally.assert_every_fault_had_an_effect();
    }
}
