//! Unit tests of the load estimate.

use super::*;

#[test]
fn the_latency_average_rises_at_once_and_decays_slowly() {
    let (mut average, begin) = (PeakEwma::default(), Instant::now());
    assert_eq!(average.value(begin), None);
    average.record(Duration::from_millis(10), begin);
    average.record(Duration::from_millis(500), begin);
    assert_eq!(average.value(begin), Some(0.5));
    average.record(Duration::from_millis(10), begin);
    assert_eq!(average.value(begin), Some(0.5), "one fast answer does not lower the average at once");
    let later = begin + DECAY;
    assert!((average.value(later).unwrap() - 0.5 / std::f64::consts::E).abs() < 1e-9);
    average.record(Duration::from_millis(10), later);
    let average = average.value(later).unwrap();
    assert!((0.18..0.20).contains(&average), "{average}");
}

#[test]
fn an_unmeasured_proxy_is_given_one_stream_first() {
    let (new, known) = (Arc::new(ProxyLoad::default()), Arc::new(ProxyLoad::default()));
    let now = Instant::now();
    known.record_latency(Duration::from_millis(50));
    assert!(new.cost(now) < known.cost(now));
    let first = new.begin_stream();
    assert!(new.cost(now) > known.cost(now));
    new.record_latency(Duration::from_millis(20));
    assert!(new.cost(now) < known.cost(now), "2 × 20 ms are less than 1 × 50 ms");
    drop(first);
    assert_eq!(new.active_streams(), 0);
    new.record_failure();
    assert!(new.cost(now) > known.cost(now));
}
