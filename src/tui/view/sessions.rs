//! The screen of sessions: links over time, and the users with what they take.

use std::{collections::VecDeque, time::Instant};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span as Text},
};

use super::{bars, chart, put, put_right, section};
use crate::tui::{
    format::{self, fit, fit_right},
    model::{Model, Span, User, WINDOWS},
};

/// Links above, users below.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let links = model.shown().proxies.links().len();
    // Users are what is acted on here; links get what they need, up to a third.
    let height = u16::try_from(links + 2).unwrap_or(u16::MAX).min((area.height / 3).max(3));
    let upper = if area.height >= 16 && area.width >= 60 { height } else { 0 };
    if upper > 0 {
        timelines(model, Rect { height: upper - 1, ..area }, buf);
    }
    users(model, Rect { y: area.y + upper, height: area.height - upper, ..area }, buf);
}

fn timelines(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let rest =
        [Text::styled(format!("  last {}  [ ]   ━ up  ╳ lost  ┄ away", chart::window(model)), theme.dim)];
    section(model, area, buf, "Links", rest);
    let links = model.shown().proxies.links();
    let rows = area.top() + 1..area.bottom();
    // The youngest names, where not all have room.
    let skip = links.len().saturating_sub(rows.len());
    for (y, (name, spans)) in rows.zip(&links[skip..]) {
        let name = Text::styled(format!("  {} ", fit(name, 16)), theme.text);
        let width = usize::from(area.width).saturating_sub(20);
        let mut line = vec![name];
        line.extend(timeline(model, spans, width).into_iter().map(|c| {
            let style = match c {
                '╳' => theme.bad,
                '┄' | ' ' => theme.rule,
                _ => theme.ok,
            };
            Text::styled(c.to_string(), style)
        }));
        put(buf, area.x, y, area, Line::from(line));
    }
}

/// One character a slice of the window.
fn timeline(model: &Model, spans: &VecDeque<Span>, width: usize) -> Vec<char> {
    let now = model.shown().now;
    let window = WINDOWS.get(model.look.window).copied().unwrap_or(120) as f64;
    let cell = |at: Instant| {
        let ago = now.saturating_duration_since(at).as_secs_f64();
        (((window - ago) / window) * width as f64).floor()
    };
    let mut out = vec![' '; width];
    let mut last_end: Option<f64> = None;
    for span in spans {
        let (from, to) = (cell(span.from), span.to.map_or(width as f64, cell));
        if let Some(end) = last_end {
            fill(&mut out, end + 1.0, from, '┄');
        }
        fill(&mut out, from, to.max(from + 1.0), '━');
        if from >= 0.0 {
            fill(&mut out, from, from + 1.0, '├');
        }
        match span.to {
            Some(_) if to >= 0.0 => fill(&mut out, to, to + 1.0, if span.lost { '╳' } else { '┤' }),
            Some(_) => {}
            None => fill(&mut out, width as f64 - 1.0, width as f64, '▶'),
        }
        last_end = span.to.map(cell);
    }
    if let Some(end) = last_end {
        fill(&mut out, end + 1.0, width as f64, '┄');
    }
    out
}

fn fill(out: &mut [char], from: f64, to: f64, with: char) {
    // A float cast saturates: what lies before the window begins at its edge.
    let (from, to) = (from.max(0.0) as usize, to.max(0.0) as usize);
    let to = to.min(out.len());
    if from < to {
        out[from..to].fill(with);
    }
}

fn users(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let users = &model.shown().users;
    let order = users.order();
    let count = format!("  {} here", format::count(order.len() as u64));
    section(model, area, buf, "Users", [Text::styled(count, theme.dim)]);
    if order.is_empty() {
        put(buf, area.x, area.y + 2, area, Line::styled("  No user is here.", theme.text));
        return;
    }
    let row = format!("row {} of {} ", model.user_cursor.index() + 1, format::count(order.len() as u64));
    put_right(buf, area, 24, Line::styled(row, theme.dim));
    let all: f64 =
        order.iter().filter_map(|id| users.get(*id)).map(|user| user.down_rate + user.up_rate).sum();
    let wide = area.width >= 100;
    let middling = area.width >= 60;
    let mut head = fit("USER", 8);
    if middling {
        head += &format!("{}{}", fit("ADDRESS", 24), fit("SERVICE", 9));
    }
    head += &format!("{}{}{}", fit_right("STREAMS", 8), fit_right("UP/s", 8), fit_right("DOWN/s", 8));
    if wide {
        head += &format!("  {}{}{}", fit("SHARE", 19), fit_right("UP", 8), fit_right("DOWN", 8));
        head += &fit_right("EVER", 7);
    }
    if middling {
        head += &fit_right("AGE", 8);
    }
    let table = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    put(buf, table.x + 2, table.y, table, Line::styled(head, theme.dim));
    let offset = model.user_cursor.offset().min(order.len());
    for (y, id) in (table.y + 1..table.bottom()).zip(&order[offset..]) {
        let Some(user) = users.get(*id) else { continue };
        let mut spans = vec![Text::styled(fit(&id.to_string(), 8), theme.text)];
        if middling {
            spans.push(Text::styled(fit(&format::cut(&user.addr.to_string(), 23), 24), theme.text));
            spans.push(Text::styled(fit(&format!(":{}", user.service.port), 9), theme.dim));
        }
        figures(model, user, all, (middling, wide), &mut spans);
        put(buf, table.x + 2, y, table, Line::from(spans));
        if model.user_cursor.selected() == Some(*id) {
            buf.set_style(Rect { y, height: 1, ..table }, theme.selected);
            put(buf, table.x, y, table, Line::styled("▌", theme.accent));
        }
    }
}

fn figures(
    model: &Model,
    user: &User,
    all: f64,
    (middling, wide): (bool, bool),
    spans: &mut Vec<Text<'static>>,
) {
    let theme = &model.theme;
    let rate = |rate: f64, style| {
        Text::styled(fit_right(&super::rate(model, rate), 8), if rate < 1.0 { theme.faint } else { style })
    };
    spans.push(Text::styled(fit_right(&format::count(user.streams), 8), theme.strong));
    spans.push(rate(user.up_rate, theme.up));
    spans.push(rate(user.down_rate, theme.down));
    if wide {
        let share = if all > 0.0 { (user.down_rate + user.up_rate) / all } else { 0.0 };
        let (filled, track) = bars::horizontal(share, 12);
        spans.push(Text::raw("  "));
        spans.push(Text::styled(filled, theme.load));
        spans.push(Text::styled(track, theme.rule));
        spans.push(Text::styled(format!(" {:>3.0}%  ", share * 100.0), theme.text));
        spans.push(Text::styled(fit_right(&format::bytes(user.up), 8), theme.text));
        spans.push(Text::styled(fit_right(&format::bytes(user.down), 8), theme.text));
        spans.push(Text::styled(fit_right(&format::count(user.streams_ever), 7), theme.text));
    }
    if middling {
        spans.push(Text::styled(fit_right(&format::age(user.age), 8), theme.text));
    }
}
