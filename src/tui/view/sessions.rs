//! The sessions screen: links over time, and the users with their traffic.

use std::{collections::VecDeque, time::Instant};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span as Text},
};

use super::{chart, draw_line, draw_section_title, users};
use crate::tui::{
    format::fit_middle,
    model::{CHART_WINDOWS, LinkCondition, LinkOutcome, LinkSpan, Model},
};

/// Draws the sessions screen: the timelines of links (proxy sessions) above the users table.
pub(crate) fn draw(model: &Model, buf: &mut Buffer) {
    let (links, below) = model.layout().split_sessions(model.shown().proxies.links().all().len());
    if links.height > 0 {
        draw_timelines(model, links, buf);
    }
    users::draw(model, below, buf);
}

/// Draws a timeline of link conditions for each link, the most recent ones where not all fit.
fn draw_timelines(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let signs = "  ━ up  ▒ draining  ┄ reconnecting  ┤ closed  ╳ lost";
    // On a narrow terminal the meaning of the signs is more important than the keys.
    let keys = if area.width < 100 { "" } else { "  [ ] zoom" };
    let links = model.shown().proxies.links();
    let rows = area.top() + 1..area.bottom();
    // The newest links, where not all fit.
    let skip = links.all().len().saturating_sub(rows.len());
    let (shown, all, window) = (rows.len(), links.all().len(), chart::window_name(model));
    let scope = match skip {
        0 => format!("  last {window}"),
        _ if keys.is_empty() => format!("  {shown}/{all}  last {window}"),
        _ => format!("  newest {shown} of {all}  last {window}"),
    };
    let rest = format!("{scope}{keys}{signs}");
    let title = if model.labels.is_of_proxy() { "Server links" } else { "Proxy links" };
    draw_section_title(model, area, buf, title, [Text::styled(rest, theme.dim)]);
    for (y, link) in rows.zip(&links.all()[skip..]) {
        let name = Text::styled(format!("  {} ", fit_middle(&links.label(link), 16)), theme.text);
        let width = usize::from(area.width).saturating_sub(20);
        let mut line = vec![name];
        line.extend(timeline_cells(model, &link.spans, width).into_iter().map(|c| {
            let style = match c {
                '╳' => theme.error,
                '▒' => theme.warn,
                '┄' | ' ' => theme.rule,
                _ => theme.ok,
            };
            Text::styled(c.to_string(), style)
        }));
        draw_line(buf, area.x, y, area, Line::from(line));
    }
}

/// Returns the timeline of one link in `width` characters: each stands for an equal part of the chart's time
/// span.
fn timeline_cells(model: &Model, spans: &VecDeque<LinkSpan>, width: usize) -> Vec<char> {
    let now = model.shown().now;
    let window = CHART_WINDOWS.get(model.display.chart_window).copied().unwrap_or(120) as f64;
    let cell = |at: Instant| {
        let ago = now.saturating_duration_since(at).as_secs_f64();
        (((window - ago) / window) * width as f64).floor()
    };
    let mut out = vec![' '; width];
    let mut last_end: Option<f64> = None;
    for span in spans {
        let (from, to) = (cell(span.from), span.end.map_or(width as f64, |end| cell(end.at)));
        if let Some(end) = last_end {
            fill(&mut out, end + 1.0, from, '┄');
        }
        let line = match span.condition {
            LinkCondition::Up => '━',
            LinkCondition::Draining => '▒',
            LinkCondition::GracePeriod => '┄',
        };
        fill(&mut out, from, to.max(from + 1.0), line);
        if from >= 0.0 && !span.continues_previous {
            fill(&mut out, from, from + 1.0, '├');
        }
        match span.end.map(|end| end.outcome) {
            Some(LinkOutcome::Lost) if to >= 0.0 => fill(&mut out, to, to + 1.0, '╳'),
            Some(LinkOutcome::Closed) if to >= 0.0 => fill(&mut out, to, to + 1.0, '┤'),
            Some(_) => {}
            None if span.condition == LinkCondition::GracePeriod => {}
            None => fill(&mut out, width as f64 - 1.0, width as f64, '▶'),
        }
        last_end =
            span.end.filter(|end| end.outcome != LinkOutcome::ConditionChanged).map(|end| cell(end.at));
    }
    if let Some(end) = last_end {
        fill(&mut out, end + 1.0, width as f64, '┄');
    }
    out
}

/// Sets the cells of a timeline from column `from` to before `to`, as far as they are inside it.
fn fill(out: &mut [char], from: f64, to: f64, with: char) {
    // A cast from a float saturates: a span that began before the window starts at its left edge.
    let (from, to) = (from.max(0.0) as usize, to.max(0.0) as usize);
    let to = to.min(out.len());
    if from < to {
        out[from..to].fill(with);
    }
}
