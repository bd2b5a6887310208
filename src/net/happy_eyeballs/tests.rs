//! Unit tests of connection attempts, in virtual time and with paths that are scripted.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::time::sleep;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The RTT of scripted paths.
const RTT: Duration = Duration::from_millis(40);

fn addresses(text: &str) -> Vec<SocketAddr> {
    text.split(' ').map(|address| format!("{address}:80").parse().unwrap()).collect()
}

fn once(timeout: Duration) -> AttemptSchedule {
    AttemptSchedule { deadline: Instant::now() + timeout, repeat_interval: None }
}

fn repeated() -> AttemptSchedule {
    AttemptSchedule { deadline: Instant::now() + 20 * SECOND, repeat_interval: Some(500 * MS) }
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

/// Counts how many attempts exist now.
struct Alive(Rc<Cell<usize>>);

impl Alive {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn addresses_alternate_between_families_in_their_order() {
    for (given, preferred, expected) in [
        ("10.0.0.1", None, "10.0.0.1"),
        ("[::1] [::2] [::3] 10.0.0.1 10.0.0.2", None, "[::1] 10.0.0.1 [::2] 10.0.0.2 [::3]"),
        ("10.0.0.1 10.0.0.2 [::1]", None, "10.0.0.1 [::1] 10.0.0.2"),
        ("127.0.0.1 127.0.0.1", None, "127.0.0.1"),
        ("[::1] [::2] 10.0.0.1", Some("10.0.0.1"), "10.0.0.1 [::1] [::2]"),
        ("[::1] [::2] 10.0.0.1", Some("[::2]"), "[::2] 10.0.0.1 [::1]"),
        ("[::1] 10.0.0.1", Some("10.0.0.9"), "[::1] 10.0.0.1"),
    ] {
        let preferred = preferred.map(|address| addresses(address)[0]);
        assert_eq!(interleave_families(&addresses(given), preferred), addresses(expected), "{given}");
    }
    assert!(interleave_families(&[], None).is_empty());
}

/// Regression test: each address was tried until it failed, so that a first address that drops all packets used up the
/// whole time.
#[tokio::test(start_paused = true)]
async fn an_address_that_is_silent_delays_the_next_one_by_250_ms() {
    let all = addresses("[::1] 10.0.0.1 [::2]");
    let begin = Instant::now();
    let connected = connect_first(&all, once(10 * SECOND), async |address| {
        if address == all[1] {
            sleep(RTT).await;
            return Ok(begin.elapsed());
        }
        std::future::pending().await
    });
    let (address, elapsed) = connected.await.unwrap();
    assert_eq!(address, all[1]);
    // The clock of tokio has a resolution of one millisecond.
    assert!((290 * MS..=293 * MS).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_starts_the_next_one_at_once() {
    let all = addresses("[::1] [::2] 10.0.0.1");
    let begin = Instant::now();
    let connected = connect_first(&all, once(10 * SECOND), async |address| {
        sleep(10 * MS).await;
        if address == all[2] { Ok(()) } else { Err(refused()) }
    });
    assert_eq!(connected.await.unwrap().0, all[2]);
    assert!((30 * MS..=36 * MS).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_earlier_attempt_may_succeed_after_a_later_one_has_begun() {
    let all = addresses("[::1] 10.0.0.1");
    let alive = Rc::default();
    let connected = connect_first(&all, once(10 * SECOND), async |address| {
        let _alive = Alive::new(&alive);
        sleep(if address == all[0] { 400 * MS } else { 300 * MS }).await;
        Ok(())
    });
    assert_eq!(connected.await.unwrap().0, all[0]);
    assert_eq!(alive.get(), 0, "the other attempt was cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_failure_names_every_address_that_was_tried() {
    let all = addresses("[::1] 10.0.0.1 [::2]");
    let begin = Instant::now();
    let connected = connect_first(&all, once(400 * MS), async |address| -> io::Result<()> {
        if address == all[0] {
            return Err(refused());
        }
        std::future::pending().await
    });
    let failed = connected.await.unwrap_err();
    assert!((400 * MS..=402 * MS).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    let found: Vec<_> =
        failed.iter().map(|one| (one.address, one.error.as_ref().map(io::Error::kind))).collect();
    // The first failed at once, the second began at 0 ms and the third at 250 ms.
    let expected = vec![(all[0], Some(io::ErrorKind::ConnectionRefused)), (all[1], None), (all[2], None)];
    assert_eq!(found, expected);
    let none_tried = connect_first(&all[1..2], once(Duration::ZERO), async |_| Ok(()));
    assert_eq!(none_tried.await.unwrap_err().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_attempts_is_bounded() {
    let all: Vec<_> = (0..100).map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect();
    for (schedule, expected) in
        [(once(10 * SECOND), MAX_ADDRESSES), (repeated(), MAX_ADDRESSES * MAX_PENDING_PER_ADDRESS as usize)]
    {
        let (alive, most) = (Rc::default(), Cell::new(0));
        let connected = connect_first(&all, schedule, async |_| -> io::Result<()> {
            let _alive = Alive::new(&alive);
            most.set(most.get().max(alive.get()));
            std::future::pending().await
        });
        assert_eq!(connected.await.unwrap_err().len(), MAX_ADDRESSES);
        assert_eq!((alive.get(), most.get()), (0, expected));
    }
}

/// A path that loses every packet until `recovery`: the first SYN that the kernel sends after it is answered.
async fn connect_after_blackout(begin: Instant, recovery: Duration, rtt: Duration) {
    for retransmission in [0, 1, 3, 7, 15] {
        let at = Instant::now().max(begin) + Duration::from_secs(retransmission);
        if at - begin >= recovery {
            sleep_until(at + rtt).await;
            return;
        }
    }
    std::future::pending().await
}

/// Regression test: after an interruption of 8 s the kernel sent the next SYN up to 7 s after the recovery.
#[tokio::test(start_paused = true)]
async fn a_repeated_attempt_connects_half_a_second_after_the_path_recovers() {
    let server = addresses("10.0.0.1");
    for recovery in (0..=190).map(|tenths| tenths * 100 * MS) {
        let begin = Instant::now();
        let connected = connect_first(&server, repeated(), async |_| {
            connect_after_blackout(begin, recovery, RTT).await;
            Ok(())
        });
        connected.await.unwrap();
        let late = begin.elapsed() - recovery;
        assert!(late <= 500 * MS + RTT + 20 * MS, "connected {late:?} after a recovery at {recovery:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_with_an_rtt_of_six_seconds_connects_after_one_rtt() {
    let begin = Instant::now();
    let (server, started) = (addresses("10.0.0.1"), Cell::new(0));
    let connected = connect_first(&server, repeated(), async |_| {
        started.set(started.get() + 1);
        sleep(6 * SECOND).await;
        Ok(())
    });
    connected.await.unwrap();
    assert!((6 * SECOND..=6 * SECOND + 2 * MS).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(started.get() <= 12, "{}", started.get());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_answers_with_an_error_gets_no_further_attempt() {
    let all = addresses("10.0.0.1 10.0.0.2");
    let tried = RefCell::new(Vec::new());
    let begin = Instant::now();
    let connected = connect_first(&all, repeated(), async |address| {
        tried.borrow_mut().push(address);
        if address == all[0] {
            return Err(refused());
        }
        connect_after_blackout(begin, 3 * SECOND, RTT).await;
        Ok(())
    });
    assert_eq!(connected.await.unwrap().0, all[1]);
    let tried = tried.into_inner();
    assert_eq!(tried.iter().filter(|address| **address == all[0]).count(), 1);
    assert!(tried.len() > 5, "{tried:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_all_attempts() {
    let (all, alive) = (addresses("10.0.0.1 10.0.0.2"), Rc::default());
    let connected = connect_first(&all, repeated(), async |_| -> io::Result<()> {
        let _alive = Alive::new(&alive);
        std::future::pending().await
    });
    assert!(tokio::time::timeout(2 * SECOND, connected).await.is_err());
    assert_eq!(alive.get(), 0);
}
