//! The whole rehearsed: a server, its proxies and their users in one process, every channel through a wire that a script
//! cuts, closes, tears, holds, slows, changes and refuses, while proxies crash, the server is restarted, the operator
//! kills and pauses, users and targets reset, and threads stand still. A seed makes the script. What somebody gets is
//! whole or fails visibly, at both ends, and afterwards nothing is left.
//!
//! One seed in three is gentle: nothing in it may end a stream, so that every transfer has to be whole.
//!
//! `UNDERPASS_SEED=7 cargo test --test simulation` plays one seed again: the same world and the same faults, each when as
//! many bytes have been carried. The order in which the kernel wakes the tasks is its own, so that a failure may want
//! some tries. `UNDERPASS_SEEDS=20000` plays more than the usual 500.
//!
//! # Why not turmoil
//!
//! Its sockets are not those that are carried over here. `turmoil::net::TcpStream` (0.7) and that of `turmoil-net` (0.1)
//! have neither `try_io`, `try_write_vectored` nor `try_read_buf`, on which a channel's driver and the pump are built;
//! neither gives out a descriptor, so that socket2 has nothing to set SO_LINGER, TCP_USER_TIMEOUT and keepalive on, to
//! shut one half down with, or to ask TCP_INFO; neither is made `from_std`, which takes a connection to the thread that
//! carries it. One of them also wants every host on the thread of its simulation. To run there, the product would need a
//! layer above its sockets that exists for the test only, and what that layer hides is what is left to rehearse: the
//! logic below it has no socket and no clock and is rehearsed in virtual time (`tests/mux`), while resets that overtake
//! bytes, ends that look clean and buffers of the kernel are of the real sockets.
//!
//! # Clocks
//!
//! Whatever waits asks the monotonic clock; `architecture::only_timestamps_and_the_screen_read_the_wall_clock` proves that the other one,
//! which can be set, is only shown, and `hostile::machine::wall_clock_jumps_affect_the_log_only` sets it. What is left of a clock that jumps is a process that wakes late, with all that was to
//! be done meanwhile due at once: here a thread is blocked, and `tests/chaos` stops whole processes.

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

/// How many are played where nobody says otherwise.
const SEEDS: u64 = 500;

/// How many are played at once. Each waits most of the time.
const AT_ONCE: usize = 12;

/// No script takes so long, whatever else the machine does.
const TOO_LONG: Duration = Duration::from_secs(120);

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Plays a script to its end, on threads of its own.
fn play(script: &Script) -> Tally {
    let mut builder = match script.threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let name = format!("seed {}", script.seed);
    let runtime = builder.worker_threads(2).thread_name(name).enable_all().build().unwrap();
    runtime.block_on(async {
        let played = tokio::time::timeout(TOO_LONG, World::play(script)).await;
        played.unwrap_or_else(|_| panic!("it hangs"))
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
        tally.proves_that_it_was_no_idle_play();
    }
}
