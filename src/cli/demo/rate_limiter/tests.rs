//! Rate limits in virtual time.

use super::*;

fn limiter(rate: u64) -> DemoRateLimiter {
    DemoRateLimiter::new(NonZeroU64::new(rate).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_limited_transfer_takes_bytes_over_rate() {
    let limiter = limiter(1_000_000);
    let start = Instant::now();
    let mut left = 10_000_000;
    while left > 0 {
        let step = limiter.step(65_536).min(left);
        limiter.acquire(step).await;
        left -= step;
    }
    let took = start.elapsed().as_secs_f64();
    assert!((9.9..10.1).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn two_tasks_share_the_rate_of_one_limiter() {
    let limiter = limiter(1_000_000);
    let start = Instant::now();
    let half = async {
        for _ in 0..100 {
            limiter.acquire(10_000).await;
        }
        start.elapsed().as_secs_f64()
    };
    let other = async {
        for _ in 0..100 {
            limiter.acquire(10_000).await;
        }
        start.elapsed().as_secs_f64()
    };
    let (a, b) = tokio::join!(half, other);
    assert!((1.9..2.1).contains(&a) && (1.9..2.1).contains(&b), "{a} {b}");
}

#[tokio::test(start_paused = true)]
async fn idle_time_allows_no_burst() {
    let limiter = limiter(1_000_000);
    limiter.acquire(1).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    let start = Instant::now();
    for _ in 0..100 {
        limiter.acquire(10_000).await;
    }
    let took = start.elapsed().as_secs_f64();
    assert!((0.9..1.05).contains(&took), "{took}");
}
