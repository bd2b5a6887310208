//! The screen of proxies: who carries how much, over which channels.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{bars, panel, put, put_right, section};
use crate::tui::{
    format::{self, cut, fit, fit_right},
    model::{Model, Proxy, ProxyLine},
};

/// The proxies in the order in which they came, each with its channels where it is unfolded.
pub(crate) fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let proxies = &model.shown().proxies;
    let up = proxies.up().count() as u64;
    let counts = format!("  {up} up, {} channels", proxies.channels());
    let taken = 11 + counts.len();
    section(model, area, buf, "Proxies", [Span::styled(counts, theme.dim)]);
    if let (Some(imbalance), Some(gini)) = (proxies.imbalance(), proxies.gini()) {
        let style = if imbalance > 2.0 { theme.warn } else { theme.text };
        let spans = vec![
            Span::styled(format!("{}  ", model.labels.policy), theme.dim),
            Span::styled("max/mean ", theme.dim),
            Span::styled(format!("{imbalance:.2}"), style),
            Span::styled("  Gini ", theme.dim),
            Span::styled(format!("{gini:.2} "), theme.text),
        ];
        put_right(buf, area, u16::try_from(taken).unwrap_or(u16::MAX), Line::from(spans));
    }
    let table = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let lines = proxies.lines(&model.unfolded);
    if lines.is_empty() {
        let mut text = vec![Line::default(), Line::styled("  No proxy yet.", theme.text)];
        text.extend(panel::invitation(model, area.width));
        for (y, line) in (table.top()..table.bottom()).zip(text) {
            put(buf, table.x, y, table, line);
        }
        return;
    }
    let columns = Columns::of(area.width);
    put(buf, table.x + 2, table.y, table, columns.head(model));
    let page = usize::from(table.height.saturating_sub(1));
    let offset = model.proxy_cursor.offset().min(lines.len());
    for (y, line) in (table.y + 1..table.bottom()).zip(lines[offset..].iter().take(page)) {
        let text = match line {
            ProxyLine::Proxy(id) => proxies.get(*id).map(|proxy| columns.proxy(model, proxy)),
            ProxyLine::Channel(id) => proxies.get(id.proxy).and_then(|proxy| {
                let channel = proxy.channels.iter().find(|channel| channel.id == *id)?;
                Some(columns.channel(model, channel))
            }),
        };
        put(buf, table.x + 2, y, table, text.unwrap_or_default());
        if model.proxy_cursor.selected() == Some(*line) {
            buf.set_style(Rect { y, height: 1, ..table }, theme.selected);
            put(buf, table.x, y, table, Line::styled("▌", theme.accent));
        }
    }
}

/// Which columns there is room for, and how wide they are.
struct Columns {
    name: usize,
    service: bool,
    address: bool,
    totals: bool,
    up: bool,
    bars: usize,
}

impl Columns {
    fn of(width: u16) -> Self {
        let bars = match width {
            0..80 => 0,
            80..110 => 8,
            _ => 14,
        };
        let name = if width < 60 { 10 } else { 16 };
        Self {
            name,
            service: width >= 70,
            address: width >= 150,
            totals: width >= 100,
            up: width >= 50,
            bars,
        }
    }

    fn head(&self, model: &Model) -> Line<'static> {
        let mut text = fit("PROXY", self.name + 2);
        if self.service {
            text += &fit("SERVES", 11);
        }
        if self.address {
            text += &fit("ADDRESS", 24);
        }
        text += &fit_right("CH", 4);
        text += &fit_right("STREAMS", 9);
        if self.bars > 0 {
            text += &format!(" {}", fit("SHARE", self.bars + 5));
        }
        if self.up {
            text += &fit_right("UP/s", 8);
        }
        text += &fit_right("DOWN/s", 8);
        if self.totals {
            text += &format!(" {}", fit("SHARE OF BYTES", self.bars + 5));
        }
        if self.totals {
            text += &format!("{}{}", fit_right("CARRIED", 9), fit_right("AGE", 7));
        }
        Line::styled(text, model.theme.dim)
    }

    fn proxy(&self, model: &Model, proxy: &Proxy) -> Line<'static> {
        let theme = &model.theme;
        let shown = model.shown();
        let open = if model.unfolded.contains(&proxy.id) { "▾" } else { "▸" };
        let name = if proxy.name.is_empty() { proxy.id.to_string() } else { proxy.name.clone() };
        let services: Vec<String> =
            proxy.services.iter().map(|service| format!(":{}", service.port)).collect();
        if let Some(gone) = &proxy.gone {
            let ago = format::age(shown.now.saturating_duration_since(gone.at));
            let why = gone.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let text =
                format!("  {} {} gone {ago} ago{why}", fit(&name, self.name), fit(&services.join(" "), 10));
            return Line::styled(text, theme.faint);
        }
        let mut spans = vec![
            Span::styled(format!("{open} "), theme.dim),
            Span::styled(fit(&name, self.name), theme.strong),
        ];
        if self.service {
            spans.push(Span::styled(fit(&cut(&services.join(" "), 10), 11), theme.dim));
        }
        if self.address {
            spans.push(Span::styled(fit(&proxy.addr.to_string(), 24), theme.dim));
        }
        spans.push(Span::styled(fit_right(&proxy.channels.len().to_string(), 4), theme.text));
        spans.push(Span::styled(fit_right(&format::count(proxy.streams), 9), theme.strong));
        self.bar(model, &mut spans, proxy.streams as f64, shown.proxies.streams() as f64, theme.load);
        if self.up {
            spans.push(Span::styled(fit_right(&super::rate(model, proxy.up_rate), 8), theme.up));
        }
        spans.push(Span::styled(fit_right(&super::rate(model, proxy.down_rate), 8), theme.down));
        if self.totals {
            let all: f64 = shown.proxies.up().map(Proxy::rate).sum();
            self.bar(model, &mut spans, proxy.rate(), all, theme.down);
            let carried = format::bytes(proxy.down.saturating_add(proxy.up));
            spans.push(Span::styled(fit_right(&carried, 9), theme.text));
            let age = format::age(shown.now.saturating_duration_since(proxy.since));
            spans.push(Span::styled(fit_right(&age, 7), theme.text));
        }
        Line::from(spans)
    }

    fn bar(
        &self,
        model: &Model,
        spans: &mut Vec<Span<'static>>,
        part: f64,
        all: f64,
        style: ratatui::style::Style,
    ) {
        if self.bars == 0 {
            return;
        }
        let share = if all > 0.0 { part / all } else { 0.0 };
        let (filled, track) = bars::horizontal(share, self.bars);
        spans.push(Span::raw(" "));
        spans.push(Span::styled(filled, style));
        spans.push(Span::styled(track, model.theme.rule));
        spans.push(Span::styled(format!(" {:>3.0}%", share * 100.0), model.theme.text));
    }

    fn channel(&self, model: &Model, channel: &crate::tui::model::Channel) -> Line<'static> {
        let theme = &model.theme;
        let rtt = channel.rtt.map_or("-".to_owned(), |rtt| match rtt.as_secs_f64() * 1000.0 {
            ms if ms < 10.0 => format!("{ms:.1} ms"),
            ms => format!("{ms:.0} ms"),
        });
        let mut spans = vec![
            Span::styled(format!("    {}", fit(&channel.id.to_string(), 9)), theme.accent),
            Span::styled(format!("{} streams", fit_right(&channel.streams.to_string(), 4)), theme.text),
            Span::styled("  rtt ", theme.dim),
            Span::styled(fit_right(&rtt, 8), theme.text),
            Span::styled("  from it ", theme.dim),
            Span::styled(fit_right(&super::rate(model, channel.received_rate), 6), theme.down),
            Span::styled("  to it ", theme.dim),
            Span::styled(fit_right(&super::rate(model, channel.sent_rate), 6), theme.up),
        ];
        if self.totals {
            spans.push(Span::styled(format!("  {}", channel.format), theme.dim));
            spans.push(Span::styled(format!("  {}", channel.addr), theme.dim));
            spans.push(Span::styled(format!("  up {}", format::age(channel.age)), theme.dim));
        }
        Line::from(spans)
    }
}
