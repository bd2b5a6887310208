//! The ring keeps the newest records, in order, with their fields.

use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[test]
fn an_event_becomes_a_record_with_its_fields() {
    let ring = LogRing::new();
    let registry = tracing_subscriber::registry().with(ring.clone());
    tracing::subscriber::with_default(registry, || tracing::warn!(target: "operator", code = 7, "kicked"));
    let records = ring.drain();
    let record = &records[0];
    assert_eq!(
        (records.len(), record.level, &*record.target, &*record.text),
        (1, LogLevel::Warn, "operator", "kicked code=7")
    );
    assert!(record.epoch_ms > 1_600_000_000_000 && ring.drain().is_empty());
}

#[test]
fn a_full_ring_discards_its_oldest_record() {
    let ring = LogRing::new();
    for number in 0..=LogRing::CAPACITY {
        ring.push(LogRecord {
            epoch_ms: 0,
            level: LogLevel::Info,
            target: "test".into(),
            text: number.to_string(),
        });
    }
    let texts: Vec<_> = ring.drain().into_iter().map(|record| record.text).collect();
    assert_eq!((texts.len(), &*texts[0]), (LogRing::CAPACITY, "1"));
}
