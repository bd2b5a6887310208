//! Charts of throughput over time, drawn with Braille dots.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{bars, draw_line, draw_section_title};
use crate::tui::{
    format::fit_right,
    model::{CHART_WINDOWS, Model, RateHistory},
};

/// The width, in cells, of the rate labels and the axis at the left of a chart.
const AXIS_WIDTH: u16 = 9;

/// Draws the throughput of the server as two areas on one time axis: downloads upwards, uploads downwards. Each has
/// its own scale: uploads are often a hundredth of downloads, and would be a flat line on the scale of downloads.
pub(crate) fn draw_panel(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let unit = super::unit(model);
    let rate = |arrow, rate: f64, style| {
        Span::styled(format!("  {arrow}{:>5}{unit}", super::rate(model, rate)), style)
    };
    let title = [
        rate("↓", model.shown().throughput.down_rate, theme.down),
        rate("↑", model.shown().throughput.up_rate, theme.up),
        Span::styled(format!("  last {}  [ ] zoom", window_name(model)), theme.dim),
    ];
    draw_section_title(model, area, buf, "Throughput", title);
    draw_plot(model, &model.shown().throughput.history, area, buf);
}

/// Formats the time span that charts cover: `30s`, `2m`, `1h`.
pub(super) fn window_name(model: &Model) -> String {
    match window_seconds(model) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s => format!("{}h", s / 3600),
    }
}

/// Returns the time span that charts cover, in seconds.
fn window_seconds(model: &Model) -> u64 {
    CHART_WINDOWS.get(model.display.chart_window).copied().unwrap_or(120)
}

/// Draws the rates of a history below the first row of `area`, which holds the title: downloads as an area above the
/// time axis, uploads as one below it, and the labels of both scales.
pub(super) fn draw_plot(model: &Model, history: &RateHistory, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let plot = Rect {
        x: area.x + AXIS_WIDTH,
        y: area.y + 1,
        width: area.width.saturating_sub(AXIS_WIDTH + 1),
        height: area.height.saturating_sub(1),
    };
    if plot.width < 4 || plot.height < 3 {
        return;
    }
    let points = history.points(usize::from(plot.width) * 2, window_seconds(model));
    let down: Vec<_> = points.iter().map(|point| point.map(|(down, _)| down)).collect();
    let up: Vec<_> = points.iter().map(|point| point.map(|(_, up)| up)).collect();
    let tops = [scale_top(&down), scale_top(&up)];
    // The direction with the larger scale gets two thirds of the height; downloads keep them unless uploads are four
    // times as fast, so that the axis does not jump.
    let third = (plot.height / 3).max(1);
    let above = if tops[1] > tops[0] * 4.0 { third } else { plot.height - third };
    let below = plot.height - above;
    let upper = Rect { height: above, ..plot };
    let lower = Rect { y: plot.y + above, height: below, ..plot };
    fill_area(buf, upper, &down, tops[0], false, theme.down);
    fill_area(buf, lower, &up, tops[1], true, theme.up);

    let mut label = |y: u16, text: String, style: Style, mark: &'static str| {
        let line = Line::from(vec![Span::styled(fit_right(&text, 7), style), Span::styled(mark, theme.rule)]);
        draw_line(buf, area.x, y, area, line);
    };
    for y in upper.top()..lower.bottom() {
        label(y, String::new(), theme.dim, " │");
    }
    label(upper.top(), super::rate(model, tops[0]), theme.dim, " ┤");
    if above >= 4 {
        label(upper.top() + above / 2, super::rate(model, tops[0] / 2.0), theme.dim, " ┤");
    }
    if below >= 5 {
        label(lower.top() + below / 2, super::rate(model, tops[1] / 2.0), theme.dim, " ┤");
    }
    label(upper.bottom() - 1, "0".to_owned(), theme.dim, " ┼");
    label(lower.bottom() - 1, super::rate(model, tops[1]), theme.dim, " ┤");
}

/// Returns the rate in bytes per second at the top of a chart's scale, so that the highest of these points fits.
fn scale_top(points: &[Option<f64>]) -> f64 {
    bars::nice_ceiling(points.iter().flatten().copied().fold(0.0, f64::max))
}

/// Fills the area of a curve with Braille dots: two points a cell, four dots a row. With `hanging` it grows downwards
/// from the top of `plot`. `top` is the rate at full height.
fn fill_area(buf: &mut Buffer, plot: Rect, points: &[Option<f64>], top: f64, hanging: bool, style: Style) {
    let dots_high = usize::from(plot.height) * 4;
    for (column, pair) in (plot.left()..plot.right()).zip(points.chunks(2)) {
        for (row, y) in (plot.top()..plot.bottom()).enumerate() {
            let mut dots = 0;
            for (half, point) in pair.iter().enumerate() {
                let Some(value) = point else { continue };
                // A rate above zero is at least one dot; in the upper area zero is one too and draws the base line.
                let filled = (value / top * dots_high as f64).round() as usize;
                let filled = filled.max(usize::from(!hanging || *value > 0.0)).min(dots_high);
                for dot in 0..4 {
                    let distance = if hanging { row * 4 + dot } else { dots_high - 1 - (row * 4 + dot) };
                    if distance < filled {
                        dots |= bars::dot(half, dot);
                    }
                }
            }
            if dots != 0 {
                buf[(column, y)].set_char(bars::braille(dots)).set_style(style);
            }
        }
    }
}

/// Draws the throughput of the server in one line: for each direction the rate and a sparkline of its history.
pub(crate) fn draw_summary_line(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    // What is left of the line beside the title and the two rates is divided between the sparklines.
    let unit = super::unit(model);
    let width = usize::from(area.width).saturating_sub(8 + 2 * (8 + unit.len())) / 2;
    let points = model.shown().throughput.history.points(width.max(1), window_seconds(model));
    let curve = |pick: fn(&(f64, f64)) -> f64| {
        bars::spark(points.iter().map(move |point| point.as_ref().map_or(0.0, pick)), 0.0)
    };
    let spans = [
        Span::styled(
            format!("  ↓{:>5}{unit}", super::rate(model, model.shown().throughput.down_rate)),
            theme.down,
        ),
        Span::styled(format!(" {}", curve(|point| point.0)), theme.down),
        Span::styled(
            format!(" ↑{:>5}{unit}", super::rate(model, model.shown().throughput.up_rate)),
            theme.up,
        ),
        Span::styled(format!(" {}", curve(|point| point.1)), theme.up),
    ];
    draw_section_title(model, area, buf, "Rate", spans);
}
