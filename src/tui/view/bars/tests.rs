//! Bars, marks and scales of charts.

use super::*;

#[test]
fn bars_fill_exactly_their_width() {
    let bar = |share, width| {
        let (filled, track) = horizontal(share, width);
        filled + &track
    };
    assert_eq!(bar(0.5, 4), "━━──");
    assert_eq!(bar(1.0, 3), "━━━");
    assert_eq!(bar(0.999, 3), "━━╸");
    assert_eq!(bar(0.0001, 3), "╸──");
    assert_eq!(bar(f64::NAN, 2), "──");
    assert_eq!(bar(7.0, 0), "");
    for i in 0..=100 {
        assert_eq!(bar(f64::from(i) / 100.0, 9).chars().count(), 9);
    }
}

#[test]
fn the_mark_is_at_the_end_of_the_fair_share() {
    let bar = |share, due| {
        let plain = Style::new();
        let spans = marked(share, due, 8, plain, plain, plain);
        spans.iter().map(|span| span.content.as_ref()).collect::<String>()
    };
    assert_eq!(bar(0.25, Some(0.5)), "━━──┃───");
    assert_eq!(bar(1.0, Some(0.5)), "━━━━┃━━━");
    assert_eq!(bar(0.25, None), "━━──────");
    assert_eq!(bar(0.0, Some(1.0)), "───────┃");
}

#[test]
fn chart_scales_are_round_numbers() {
    assert_eq!(nice_ceiling(0.0), 1000.0);
    assert_eq!(nice_ceiling(32_600_000.0), 40_000_000.0);
    assert_eq!(nice_ceiling(9_100_000.0), 10_000_000.0);
    assert_eq!(spark([0.0, 1.0, 4.0, 8.0].into_iter(), 0.0), " ▁▄▇");
}
