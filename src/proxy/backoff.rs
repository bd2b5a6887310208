use std::time::Duration;

/// Pauses between attempts: each up to twice as long as the one before, never quite the same, so that a thousand
/// proxies of a server that was restarted do not come back in one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    bounds: (Duration, Duration),
    next: Duration,
}

impl Backoff {
    pub(super) fn new(bounds: (Duration, Duration)) -> Self {
        Self { bounds, next: bounds.0 }
    }

    /// The next pause: between half and all of what it has grown to.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.bounds.1);
        pause.mul_f64(rand::random_range(0.5..=1.0)).max(self.bounds.0)
    }

    /// It worked: the next failure begins anew.
    pub(super) fn reset(&mut self) {
        self.next = self.bounds.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds_and_begin_anew() {
        let bounds = (Duration::from_millis(200), Duration::from_secs(15));
        let mut backoff = Backoff::new(bounds);
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().all(|pause| (bounds.0..=bounds.1).contains(pause)), "{pauses:?}");
        assert!(pauses[19] >= bounds.1 / 2);
        backoff.reset();
        assert_eq!(backoff.pause(), bounds.0);
    }
}
