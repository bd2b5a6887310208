use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How long it takes until a peak has gone down to a third.
const DECAY: Duration = Duration::from_secs(10);

/// What an open stream counts for with who was never measured: it gets one, and others once that is answered.
const UNKNOWN: Duration = Duration::from_secs(1);

/// What a failure counts for. A target that is down refuses in no time, and would get everybody otherwise.
const FAILURE: Duration = Duration::from_secs(5);

/// How much something has to do, and how quickly it does it.
#[derive(Debug, Default)]
pub(in crate::server) struct ProxyLoad {
    active: AtomicU32,
    answers: Mutex<PeakEwma>,
}

/// One stream more; dropped when it is over.
#[derive(Debug)]
pub(in crate::server) struct ActiveStreamGuard(Arc<ProxyLoad>);

impl Drop for ActiveStreamGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl ProxyLoad {
    /// It has one stream more.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> ActiveStreamGuard {
        self.active.fetch_add(1, Relaxed);
        ActiveStreamGuard(self.clone())
    }

    /// A stream was answered, or its target reached, after so long.
    pub(in crate::server) fn answered(&self, took: Duration) {
        self.answers.lock().measured(took, Instant::now());
    }

    /// A stream failed because of what answers it.
    pub(in crate::server) fn failed(&self) {
        self.answered(FAILURE);
    }

    /// How many streams it has.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// How long one more would be likely to wait for its answer, in a measure that only compares.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let active = f64::from(self.active());
        match self.answers.lock().at(now) {
            Some(average) => average * (active + 1.0),
            None => UNKNOWN.as_secs_f64() * active,
        }
    }
}

/// An average that goes up to a peak at once and comes down slowly: who has just become slow is avoided from its first
/// late answer on, and gets another chance by and by.
#[derive(Debug, Default)]
struct PeakEwma(Option<(f64, Instant)>);

impl PeakEwma {
    fn measured(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = match self.0 {
            Some((before, since)) if took < before => {
                let old = weight(since, now);
                before * old + took * (1.0 - old)
            }
            _ => took,
        };
        self.0 = Some((average, now));
    }

    /// What it has come down to; `None` if nothing was ever measured.
    fn at(&self, now: Instant) -> Option<f64> {
        self.0.map(|(average, since)| average * weight(since, now))
    }
}

fn weight(since: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(since).as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_rises_at_once_and_falls_slowly() {
        let (mut answers, begin) = (PeakEwma::default(), Instant::now());
        assert_eq!(answers.at(begin), None);
        answers.measured(Duration::from_millis(10), begin);
        answers.measured(Duration::from_millis(500), begin);
        assert_eq!(answers.at(begin), Some(0.5));
        answers.measured(Duration::from_millis(10), begin);
        assert_eq!(answers.at(begin), Some(0.5), "one quick answer does not make up for it");
        let later = begin + DECAY;
        assert!((answers.at(later).unwrap() - 0.5 / std::f64::consts::E).abs() < 1e-9);
        answers.measured(Duration::from_millis(10), later);
        let average = answers.at(later).unwrap();
        assert!((0.18..0.20).contains(&average), "{average}");
    }

    #[test]
    fn who_was_never_measured_gets_one_stream_to_begin_with() {
        let (new, known) = (Arc::new(ProxyLoad::default()), Arc::new(ProxyLoad::default()));
        let now = Instant::now();
        known.answered(Duration::from_millis(50));
        assert!(new.cost(now) < known.cost(now));
        let first = new.begin();
        assert!(new.cost(now) > known.cost(now));
        new.answered(Duration::from_millis(20));
        assert!(new.cost(now) < known.cost(now), "2 × 20 ms are less than 1 × 50 ms");
        drop(first);
        assert_eq!(new.active(), 0);
        new.failed();
        assert!(new.cost(now) > known.cost(now));
    }
}
