//! The text of the summary.

use super::*;

#[test]
fn a_run_without_errors_prints_four_lines() {
    let report = LoadReport {
        started: 12,
        downloads: 10,
        uploads: 2,
        down: 1_234_567_890,
        up: 999,
        ..LoadReport::default()
    };
    let summary = DemoSummary { report, elapsed: Duration::from_millis(10_000) };
    assert!(summary.is_clean());
    assert_eq!(
        summary.to_string(),
        "demo ran for 10.0 s\n\
         \x20 streams            12: 10 downloads, 2 uploads complete\n\
         \x20 bytes              1.2 GB down, 999 B up, 123 MB/s\n\
         \x20 checksum failures  0\n"
    );
}

#[test]
fn failed_transfers_are_printed_with_their_errors() {
    let report = LoadReport {
        started: 9,
        downloads: 4,
        checksum_failures: 1,
        failed: 2,
        cancelled: 2,
        errors: vec!["download: corrupt: wrong byte at offset 7".into()],
        ..LoadReport::default()
    };
    let summary = DemoSummary { report, elapsed: Duration::ZERO };
    assert!(!summary.is_clean());
    let text = summary.to_string();
    for part in ["2 still open", "2 failed with an error", "failures  1", "offset 7", "0 B down"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
