//! How the end of a stream reads: a transfer that was cut short is never called finished, on any screen of any size.

use std::{sync::Arc, time::Duration};

use super::fixture::Fixture;
use crate::{
    ids::Direction,
    telemetry::{Content, EndReason, Progress, Shortfall, TransferEnd},
    tui::model::{ExportFormat, export},
};

const TICK: Duration = Duration::from_millis(100);

/// A stream with an HTTP download of 200 MB of which 161 MB have arrived. `is_user_closed` says whether its user has
/// closed the connection.
fn download(fixture: &mut Fixture, is_user_closed: bool) {
    fixture.proxy("lab");
    let index = fixture.open(0xABC123, 1);
    fixture.assign(index, 0);
    let stats = fixture.streams[index].stats();
    stats.set_content(Arc::new(Content::Http {
        method: "GET".into(),
        target: "/big.iso".into(),
        status: Some(200),
        body: Some(Progress { begun: 100, size: 200_000_000 }),
    }));
    stats.add_down(100);
    stats.add_down(161_000_000);
    if is_user_closed {
        stats.record_user_end();
    }
    stats.record_transfer_end(TransferEnd::Short(Shortfall {
        direction: Direction::Down,
        transferred: 161_000_000,
        size: Some(200_000_000),
        is_user_closed: false,
    }));
    fixture.tick(TICK);
}

#[test]
fn a_short_download_reads_short_on_every_screen_and_counts_as_failed() {
    for (width, height) in [(120, 36), (80, 24), (60, 15)] {
        let mut fixture = Fixture::empty(width, height);
        download(&mut fixture, false);
        fixture.end(0, EndReason::Finished);
        fixture.tick(TICK);
        let text = fixture.text();
        let row = text.lines().find(|line| line.contains("ABC123:1")).unwrap();
        assert!(row.contains(" short "), "{row}");
        assert!(width < 80 || row.contains("161M of 200M"), "{row}");
        assert!(!text.contains("finished"), "{text}");
        assert_eq!(fixture.model.live.totals.streams_failed, 1);
        assert_eq!(fixture.model.live.streams.failed_count(), 1);
        fixture.press(">");
        let text = fixture.text();
        assert!(text.contains("short: 161M of 200M"), "{text}");
        assert!(!text.contains("by both") && !text.contains("finished"), "{text}");
    }
    let mut fixture = Fixture::empty(120, 36);
    download(&mut fixture, false);
    fixture.end(0, EndReason::Finished);
    fixture.tick(TICK);
    let csv = export(&fixture.model, ExportFormat::Csv);
    assert!(csv.contains(",short,") && csv.contains(",200000000,"), "{csv}");
    assert!(csv.contains(",short: 161M of 200M,target,"), "{csv}");
    fixture.type_in("/state:short");
    fixture.press(">");
    assert_eq!(fixture.keys().len(), 1, "{}", fixture.text());
}

#[test]
fn what_the_user_or_the_operator_ended_is_neither_finished_nor_failed() {
    for (reason, state, text) in [
        (EndReason::Finished, "aborted", "ended by the user at 161M of 200M (FIN)"),
        (EndReason::UserSocketError, "aborted", "ended by the user at 161M of 200M (RST or I/O error)"),
        (EndReason::Killed, "killed", "killed by the operator at 161M of 200M"),
    ] {
        let mut fixture = Fixture::empty(120, 36);
        download(&mut fixture, reason == EndReason::Finished);
        fixture.end(0, reason);
        fixture.tick(TICK);
        let row = fixture.text().lines().find(|line| line.contains("ABC123:1")).unwrap().to_owned();
        assert!(row.contains(state) && row.contains("161M of 200M"), "{row}");
        assert_eq!(fixture.model.live.totals.streams_failed, 0);
        fixture.press(">");
        assert!(fixture.text().contains(text), "{}", fixture.text());
    }
}

/// The channel goes on with other streams; the figures of the ended one are those at its end.
#[test]
fn the_figures_of_an_ended_stream_do_not_change() {
    for (width, height) in [(120, 36), (80, 24)] {
        let mut fixture = Fixture::empty(width, height);
        download(&mut fixture, false);
        let other = fixture.open(0xABC123, 2);
        fixture.assign(other, 0);
        fixture.tick(TICK);
        fixture.press("g>");
        fixture.tick(TICK);
        fixture.end(0, EndReason::Finished);
        fixture.tick(TICK);
        let facts = |fixture: &Fixture| {
            let text = fixture.text();
            let is_figure = |line: &&str| {
                let labels = ["channel", "down", "up ", "progress", "ended", "window"];
                labels.iter().any(|label| line.trim_start().starts_with(label))
            };
            text.lines().filter(is_figure).map(str::to_owned).collect::<Vec<_>>()
        };
        let at_end = facts(&fixture);
        assert!(at_end.iter().any(|line| line.contains("161M")), "{}", fixture.text());
        for _ in 0..30 {
            fixture.streams[0].stats().add_down(5_000_000);
            let (_, channel) = &fixture.proxies[0];
            channel.stats().add_received(5_000_000);
            fixture.tick(TICK);
        }
        assert_eq!(facts(&fixture), at_end, "{}", fixture.text());
    }
}
