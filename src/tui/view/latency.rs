//! How long things took: percentiles, and how often it was how long.

use std::{ops::RangeInclusive, time::Duration};

use ratatui::text::{Line, Span};

use super::bars;
use crate::{
    telemetry::{Latencies, LatencySummary},
    tui::{
        format::{self, fit, fit_right, truncate_middle},
        model::Model,
    },
};

/// How wide the columns are, that of labels as there is room.
const LABEL: RangeInclusive<usize> = 14..=22;
const COUNT: usize = 6;
const FIGURE: usize = 6;
const BARS: usize = LatencySummary::BARS + 2;

/// A table of latencies in `width` cells: a head, then a row each.
pub(super) fn table(model: &Model, rows: &[(String, &LatencySummary)], width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    // The count and three figures; then the bars, then the maximum; the label has what is left.
    let rest = usize::from(width).saturating_sub(2 + COUNT + 3 * FIGURE);
    let bars = rest >= LABEL.start() + BARS;
    let max = rest >= LABEL.end() + BARS + FIGURE;
    let used = if bars { BARS } else { 0 } + if max { FIGURE } else { 0 };
    let label = rest.saturating_sub(used).clamp(*LABEL.start(), *LABEL.end());
    let mut head = format!("  {}{}", fit("", label), fit_right("COUNT", COUNT));
    for name in ["P50", "P90", "P99"].into_iter().chain(max.then_some("MAX")) {
        head += &fit_right(name, FIGURE);
    }
    if bars {
        // Where the first bar ends and the last one begins.
        head += &format!("  {}{}", fit("128µs", LatencySummary::BARS - 2), "2s");
    }
    let row = |(name, latency): &(String, &LatencySummary)| {
        let figure = |took: Duration, style| Span::styled(fit_right(&format::latency(took), FIGURE), style);
        let mut spans = vec![
            Span::styled(format!("  {}", fit(&short(name, label), label)), theme.dim),
            Span::styled(fit_right(&short_count(latency.count), COUNT), theme.text),
            figure(latency.p50, theme.strong),
            figure(latency.p90, theme.text),
            figure(latency.p99, theme.text),
        ];
        if max {
            spans.push(figure(latency.max, theme.dim));
        }
        if bars {
            let counts = latency.bars.iter().map(|count| *count as f64);
            spans.push(Span::styled(format!("  {}", bars::spark(counts, 0.0)), theme.load));
        }
        Line::from(spans)
    };
    std::iter::once(Line::styled(head, theme.dim)).chain(rows.iter().map(row)).collect()
}

/// A label in at most `width` cells: of what, behind its last blank, is cut, not what of it.
fn short(label: &str, width: usize) -> String {
    match label.rsplit_once(' ') {
        Some((what, name)) => {
            format!("{what} {}", truncate_middle(name, width.saturating_sub(what.len() + 1)))
        }
        None => truncate_middle(label, width),
    }
}

/// The most telling ones in one line.
pub(super) fn line(model: &Model, latencies: &Latencies) -> Option<Line<'static>> {
    let theme = &model.theme;
    let mut spans = vec![Span::styled(format!("  {}", fit("latency", 10)), theme.dim)];
    for (name, latency) in [("open", &latencies.connect), ("first byte", &latencies.time_to_first_byte)] {
        if let Some(pair) = pair(latency) {
            let counts = latency.bars.iter().map(|count| *count as f64);
            let bars = bars::spark(counts, 0.0);
            spans.push(Span::styled(format!("{name} "), theme.dim));
            spans.push(Span::styled(format!("{pair} "), theme.text));
            spans.push(Span::styled(format!("{}  ", bars.trim()), theme.load));
        }
    }
    (spans.len() > 1).then(|| Line::from(spans))
}

/// Half of them and all but one in a hundred, in one cell: `12ms/1.3s`.
pub(super) fn pair(latency: &LatencySummary) -> Option<String> {
    (latency.count > 0).then(|| format!("{}/{}", format::latency(latency.p50), format::latency(latency.p99)))
}

/// At most five characters.
fn short_count(count: u64) -> String {
    if count < 10_000 { format::count(count) } else { format::bytes(count) }
}
