//! Draws latencies: percentiles, and a histogram as a row of small bars.

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

/// The smallest and the largest width in cells of the label column of a latency table.
const LABEL_WIDTH: RangeInclusive<usize> = 14..=22;
/// The width in cells of the column with the number of measurements.
const COUNT_WIDTH: usize = 6;
/// The width in cells of a column with one percentile.
const PERCENTILE_WIDTH: usize = 6;
/// The width in cells of the column with the histogram, including the blanks before it.
const HISTOGRAM_WIDTH: usize = LatencySummary::BARS + 2;

/// Returns a table of latencies in `width` cells: the headings, then a line for each of `rows`. The histogram and the
/// maximum are shown where there is room for them.
pub(super) fn table(model: &Model, rows: &[(String, &LatencySummary)], width: u16) -> Vec<Line<'static>> {
    let theme = &model.theme;
    // The count and three percentiles come first, then the histogram, then the maximum; the label has the rest.
    let rest = usize::from(width).saturating_sub(2 + COUNT_WIDTH + 3 * PERCENTILE_WIDTH);
    let has_histogram = rest >= LABEL_WIDTH.start() + HISTOGRAM_WIDTH;
    let has_max = rest >= LABEL_WIDTH.end() + HISTOGRAM_WIDTH + PERCENTILE_WIDTH;
    let used = if has_histogram { HISTOGRAM_WIDTH } else { 0 } + if has_max { PERCENTILE_WIDTH } else { 0 };
    let label_width = rest.saturating_sub(used).clamp(*LABEL_WIDTH.start(), *LABEL_WIDTH.end());
    let mut headings = format!("  {}{}", fit("", label_width), fit_right("COUNT", COUNT_WIDTH));
    for name in ["p50", "p90", "p99"].into_iter().chain(has_max.then_some("max")) {
        headings += &fit_right(name, PERCENTILE_WIDTH);
    }
    if has_histogram {
        // The upper bound of the first bar and the lower bound of the last one.
        headings += &format!("  {}{}", fit("128µs", LatencySummary::BARS - 2), "2s");
    }
    let row = |(name, latency): &(String, &LatencySummary)| {
        let figure = |value: Duration, style| {
            Span::styled(fit_right(&format::latency(value), PERCENTILE_WIDTH), style)
        };
        let mut spans = vec![
            Span::styled(format!("  {}", fit(&short_label(name, label_width), label_width)), theme.dim),
            Span::styled(fit_right(&short_count(latency.count), COUNT_WIDTH), theme.text),
            figure(latency.p50, theme.strong),
            figure(latency.p90, theme.text),
            figure(latency.p99, theme.text),
        ];
        if has_max {
            spans.push(figure(latency.max, theme.dim));
        }
        if has_histogram {
            let counts = latency.bars.iter().map(|count| *count as f64);
            spans.push(Span::styled(format!("  {}", bars::spark(counts, 0.0)), theme.load));
        }
        Line::from(spans)
    };
    std::iter::once(Line::styled(headings, theme.dim)).chain(rows.iter().map(row)).collect()
}

/// Shortens a label such as `TTFB edge-frankfurt` to `width` cells: only the name behind its last blank is truncated.
fn short_label(label: &str, width: usize) -> String {
    match label.rsplit_once(' ') {
        Some((what, name)) => {
            format!("{what} {}", truncate_middle(name, width.saturating_sub(what.len() + 1)))
        }
        None => truncate_middle(label, width),
    }
}

/// Returns p50 and p99 of connect latency and time to first byte in one line, each with its histogram; `None` if
/// neither was measured.
pub(super) fn line(model: &Model, latencies: &Latencies) -> Option<Line<'static>> {
    let theme = &model.theme;
    let mut spans = vec![Span::styled(format!("  {}", fit("p50/p99", 10)), theme.dim)];
    for (name, latency) in [("connect", &latencies.connect), ("TTFB", &latencies.time_to_first_byte)] {
        if let Some(percentiles) = p50_p99(latency) {
            let counts = latency.bars.iter().map(|count| *count as f64);
            let bars = bars::spark(counts, 0.0);
            spans.push(Span::styled(format!("{name} "), theme.dim));
            spans.push(Span::styled(format!("{percentiles} "), theme.text));
            spans.push(Span::styled(format!("{}  ", bars.trim()), theme.load));
        }
    }
    (spans.len() > 1).then(|| Line::from(spans))
}

/// Formats p50 and p99 for one cell: `12ms/1.3s`. `None` if nothing was measured.
pub(super) fn p50_p99(latency: &LatencySummary) -> Option<String> {
    (latency.count > 0).then(|| format!("{}/{}", format::latency(latency.p50), format::latency(latency.p99)))
}

/// Formats a number of measurements in at most five characters.
fn short_count(count: u64) -> String {
    if count < 10_000 { format::count(count) } else { format::bytes(count) }
}
