//! Unit tests of the cache of names: lifetimes in virtual time, coalescing with real threads.

use std::sync::{
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What targets require: addresses are used for 30 s, and nothing waits for newer ones.
const TARGET: Freshness = Freshness { max_age: Duration::from_secs(30), max_wait: Duration::ZERO };

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

/// A resolver whose answer is scripted: the n-th lookup returns port n, or an error while `is_failing`.
#[derive(Default)]
struct Script {
    lookups: AtomicUsize,
    failing: AtomicUsize,
}

impl Script {
    fn cache(self: &Arc<Self>) -> NameCache {
        let script = self.clone();
        NameCache::with_lookup(move |_| {
            let number = script.lookups.fetch_add(1, SeqCst) + 1;
            if script.failing.load(SeqCst) > 0 {
                return Err(io::Error::other("no answer"));
            }
            Ok(vec![address(u16::try_from(number).unwrap())])
        })
    }

    fn lookups(&self) -> usize {
        self.lookups.load(SeqCst)
    }

    fn set_failing(&self, is_failing: bool) {
        self.failing.store(is_failing.into(), SeqCst);
    }
}

/// Lets the threads of running lookups end.
async fn settle(cache: &NameCache) {
    while cache.permits.available_permits() < MAX_LOOKUPS {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_resolver_fails_old_addresses_serve_for_ten_minutes() {
    let script = Arc::<Script>::default();
    let cache = script.cache();
    cache.resolve("a:1", TARGET).await.unwrap();
    script.set_failing(true);
    for _ in 0..55 {
        advance(10 * SECOND).await;
        assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(1)]);
        settle(&cache).await;
    }
    advance(60 * SECOND).await;
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap_err().to_string(), "no answer");
    script.set_failing(false);
    advance(2 * SECOND).await;
    assert!(cache.resolve("a:1", TARGET).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_is_repeated_after_a_second_at_the_earliest() {
    let script = Arc::<Script>::default();
    script.set_failing(true);
    let cache = script.cache();
    for _ in 0..100 {
        assert!(cache.resolve("a:1", TARGET).await.is_err());
        advance(SECOND / 10).await;
    }
    assert!((9..=11).contains(&script.lookups()), "{} lookups in 10 s", script.lookups());
    // The same for addresses that are known.
    script.set_failing(false);
    advance(2 * SECOND).await;
    cache.resolve("a:1", TARGET).await.unwrap();
    script.set_failing(true);
    advance(31 * SECOND).await;
    let before = script.lookups();
    for _ in 0..100 {
        assert!(cache.resolve("a:1", TARGET).await.is_ok());
        settle(&cache).await;
        advance(SECOND / 10).await;
    }
    let lookups = script.lookups() - before;
    assert!((9..=11).contains(&lookups), "{lookups} lookups in 10 s");
}

#[tokio::test(start_paused = true)]
async fn the_address_that_answered_is_tried_first_for_ten_minutes() {
    let all: [SocketAddr; 3] = ["[::1]:1", "[::2]:1", "10.0.0.1:1"].map(|text| text.parse().unwrap());
    let cache = NameCache::with_lookup(move |_| Ok(all.to_vec()));
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [all[0], all[2], all[1]]);
    cache.prefer("a:1", all[2]);
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [all[2], all[0], all[1]]);
    advance(31 * SECOND).await;
    // Also by an answer that is newer than the preference.
    assert_eq!(cache.resolve("a:1", Freshness { max_wait: SECOND, ..TARGET }).await.unwrap()[0], all[2]);
    advance(600 * SECOND).await;
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap()[0], all[0]);
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error() {
    let cache = NameCache::with_lookup(|_| Ok(Vec::new()));
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// A resolver that answers when the test says so: the n-th lookup returns port n.
struct Gate {
    cache: Arc<NameCache>,
    started: Arc<AtomicUsize>,
    open: mpsc::Sender<()>,
}

impl Gate {
    fn new() -> Self {
        let (open, gate) = mpsc::channel::<()>();
        let (gate, started) = (std::sync::Mutex::new(gate), Arc::<AtomicUsize>::default());
        let count = started.clone();
        let cache = NameCache::with_lookup(move |_| {
            let number = count.fetch_add(1, SeqCst) + 1;
            // Fails when the test has ended.
            _ = gate.lock().unwrap().recv();
            Ok(vec![address(u16::try_from(number).unwrap())])
        });
        Self { cache: Arc::new(cache), started, open }
    }

    async fn when_started(&self, lookups: usize) {
        while self.started.load(SeqCst) < lookups {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_its_lifetime_and_then_renewed_in_the_background() {
    let Gate { cache, started, open } = Gate::new();
    open.send(()).unwrap();
    for _ in 0..10 {
        assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(1)]);
        advance(2 * SECOND).await;
    }
    assert_eq!(started.load(SeqCst), 1);
    advance(30 * SECOND).await;
    for _ in 0..10 {
        assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(1)], "the old one serves meanwhile");
    }
    open.send(()).unwrap();
    settle(&cache).await;
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(2)]);
    assert_eq!(started.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_accept_no_connection_are_looked_up_again() {
    let Gate { cache, open, .. } = Gate::new();
    open.send(()).unwrap();
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(1)]);
    cache.expire("a:1");
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(1)]);
    open.send(()).unwrap();
    settle(&cache).await;
    assert_eq!(cache.resolve("a:1", TARGET).await.unwrap(), [address(2)]);
}

#[tokio::test]
async fn streams_that_need_a_name_at_the_same_time_share_one_lookup() {
    let gate = Gate::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let cache = gate.cache.clone();
        tasks.spawn(async move { cache.resolve("a:1", TARGET).await.unwrap() });
    }
    gate.when_started(1).await;
    gate.open.send(()).unwrap();
    while let Some(resolved) = tasks.join_next().await {
        assert_eq!(resolved.unwrap(), [address(1)]);
    }
    assert_eq!(gate.started.load(SeqCst), 1);
}

#[tokio::test]
async fn a_lookup_continues_when_the_stream_that_needed_it_has_ended() {
    let gate = Gate::new();
    let cache = gate.cache.clone();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { cache.resolve("a:1", TARGET).await });
    gate.when_started(1).await;
    waiting.shutdown().await;
    gate.open.send(()).unwrap();
    assert_eq!(gate.cache.resolve("a:1", TARGET).await.unwrap(), [address(1)]);
    assert_eq!(gate.started.load(SeqCst), 1);
}

#[tokio::test]
async fn lookups_of_many_names_use_few_threads() {
    let gate = Gate::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let cache = gate.cache.clone();
        tasks.spawn(async move { cache.resolve(&format!("host-{n}:1"), TARGET).await.unwrap() });
    }
    gate.when_started(MAX_LOOKUPS).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(gate.started.load(SeqCst), MAX_LOOKUPS);
    // Names whose waiters have ended free their permits as well.
    tasks.shutdown().await;
    for _ in 0..20 {
        gate.open.send(()).unwrap();
    }
    assert!(gate.cache.resolve("another:1", TARGET).await.is_ok());
}

#[tokio::test]
async fn a_slow_resolver_delays_a_connection_by_the_permitted_time_only() {
    let gate = Gate::new();
    gate.open.send(()).unwrap();
    let server = Freshness { max_age: Duration::ZERO, max_wait: Duration::from_millis(30) };
    gate.cache.resolve("a:1", server).await.unwrap();
    let begin = Instant::now();
    assert_eq!(gate.cache.resolve("a:1", server).await.unwrap(), [address(1)]);
    assert!(begin.elapsed() >= server.max_wait, "it does wait");
    assert_eq!(gate.started.load(SeqCst), 2);
}

#[tokio::test]
async fn the_number_of_names_is_bounded() {
    let script = Arc::<Script>::default();
    let cache = script.cache();
    for n in 0..MAX_NAMES {
        cache.resolve(&format!("host-{n}:1"), TARGET).await.unwrap();
        cache.resolve("often:1", TARGET).await.unwrap();
    }
    assert_eq!(cache.names.lock().len(), MAX_NAMES);
    assert_eq!(script.lookups(), MAX_NAMES + 1, "the name that is used often is kept");
}
