//! Confirmation dialogs and the window that shows how to add a proxy.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    text::{Line, Span},
};

use super::{centered, draw_line, draw_line_truncated, draw_window};
use crate::{
    ids::{ProxyId, UserChannelId},
    tui::{
        format,
        model::{Confirmation, Dialog, KillTarget, Model, RowId, StreamRow},
    },
};

/// Draws the confirmation dialog: what the action affects, the number to type if there is one, and the buttons.
pub(crate) fn draw(model: &Model, dialog: &Dialog, buf: &mut Buffer) {
    let theme = &model.theme;
    let (title, body) = match &dialog.question {
        Confirmation::Kill(targets) => match targets.as_slice() {
            [only] => ("Kill this stream?", kill_text(model, only.row, &only.key.to_string())),
            many => ("Kill these streams?", kill_many_text(model, many)),
        },
        Confirmation::KillUser { user, .. } => ("Kill this user?", kill_user_text(model, *user)),
        Confirmation::Kick { proxy, .. } => ("Kick this proxy?", kick_text(model, *proxy)),
        Confirmation::Quit { drain_timeout } => ("Quit?", quit_text(model, *drain_timeout)),
    };
    let mut body = body;
    if let Some(number) = dialog.required_number() {
        body.push(Line::from(vec![
            Span::styled(format!("Type {number} to confirm: "), theme.text),
            Span::styled(format!("{}_", dialog.typed), theme.strong),
        ]));
    }
    let height = u16::try_from(body.len()).unwrap_or(u16::MAX).saturating_add(4);
    let area = centered(buf, 62, height);
    let inner = draw_window(model, area, buf, theme.error, title);
    for (y, line) in (inner.top()..inner.bottom()).zip(body) {
        draw_line_truncated(buf, inner.x + 1, y, inner, line);
    }
    // On a terminal that is too low the buttons cover the last line of text.
    let mut spans = Vec::new();
    for button in dialog.buttons() {
        let style = match (*button == dialog.focused(), button.is_destructive()) {
            (true, true) => theme.danger_button,
            (true, false) => theme.button,
            (false, _) => theme.dim,
        };
        // Brackets show the focus without colour.
        let (open, close) = if *button == dialog.focused() { ('[', ']') } else { (' ', ' ') };
        spans.push(Span::styled(format!("{open} {} {close}", button.label()), style));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX).min(inner.width);
    if inner.height > 0 {
        draw_line(buf, inner.right() - width, inner.bottom() - 1, inner, line);
    }
}

/// Draws the window with the command by which another machine joins as a proxy, and a command for a test download. The
/// token in it is masked unless `is_secret_shown`.
pub(crate) fn draw_join_command(model: &Model, is_secret_shown: bool, buf: &mut Buffer) {
    let theme = &model.theme;
    let Some(join) = model.join_command() else { return };
    let width = buf.area.width.min(86);
    let room = usize::from(width.saturating_sub(4)).max(1);
    let mut lines = Vec::new();
    let mut push = |text: &str, style| {
        lines.extend(format::wrap(text, room).into_iter().map(|part| Line::styled(part, style)));
    };
    push("Run this on the machine behind NAT, with the name, port and target you want:", theme.dim);
    if is_secret_shown || model.labels.secret.is_none() {
        push(&join, theme.accent);
        let secret = if is_secret_shown { " The token in it is a secret." } else { "" };
        push(&format!("y copies it.{secret}"), theme.dim);
    } else {
        push(&model.labels.mask(&join), theme.accent);
        push("y copies it with the token, which is a secret; t shows it.", theme.dim);
    }
    if let Some(curl) = &model.labels.curl {
        push("A test download:", theme.dim);
        push(curl, theme.accent);
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let inner = draw_window(model, centered(buf, width, height), buf, theme.rule, "Add a proxy");
    for (y, line) in (inner.top()..inner.bottom()).zip(lines) {
        draw_line(buf, inner.x + 1, y, inner, line);
    }
}

/// Returns the text of the dialog that confirms killing one stream: its key, user, content, bytes and age.
fn kill_text(model: &Model, id: RowId, key: &str) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let key = Span::styled(key.to_owned(), theme.accent.patch(theme.strong));
    let Some(row) = model.live.streams.get(id) else {
        return vec![Line::from(vec![key, Span::raw(" has ended.")])];
    };
    if let Some(ended) = &row.ended {
        let why = ended.reason.as_ref().map_or("end unknown".to_owned(), ToString::to_string);
        return vec![
            Line::from(vec![key, Span::styled(" has already ended:", theme.text)]),
            Line::styled(why, theme.dim),
        ];
    }
    let label = |text: &str| Span::styled(format::fit(text, 8), theme.dim);
    let content = row.content.as_ref().map(ToString::to_string);
    vec![
        Line::from(vec![key, Span::styled(format!("  {}", route(model, row)), theme.dim)]),
        Line::from(vec![
            label("user"),
            Span::styled(row.addr.to_string(), theme.text),
            Span::styled(format!("  {}", content.unwrap_or_default()), theme.dim),
        ]),
        Line::from(vec![
            label("so far"),
            Span::styled(format!("↓ {}", format::bytes(row.counters.down)), theme.down),
            Span::styled(format!("  ↑ {}", format::bytes(row.counters.up)), theme.up),
            Span::styled(format!("  in {}", format::age(row.age(model.live.now))), theme.dim),
        ]),
        Line::styled("User and target connections are reset at once.", theme.dim),
    ]
}

/// Returns the text of the dialog that confirms killing several streams: their totals, the first four open ones, and
/// the number of the others.
fn kill_many_text(model: &Model, targets: &[KillTarget]) -> Vec<Line<'static>> {
    const LISTED: usize = 4;
    let theme = &model.theme;
    let live = |target: &&KillTarget| model.live.streams.get(target.row).is_some_and(StreamRow::is_live);
    let rows = || targets.iter().filter_map(|target| model.live.streams.get(target.row));
    let (open, down, up) = rows().filter(|row| row.is_live()).fold((0, 0, 0), |(open, down, up), row| {
        (open + 1, row.counters.down.saturating_add(down), row.counters.up.saturating_add(up))
    });
    // The number to type is that of all, also of those that end meanwhile.
    let count = match targets.len() {
        all if open < all => format!("{open} of {} still open", format::counted(all as u64, "stream")),
        all => format::counted(all as u64, "open stream"),
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(count, theme.strong),
        Span::styled(format!("  ↓ {}  ↑ {}", format::bytes(down), format::bytes(up)), theme.dim),
    ])];
    for target in targets.iter().filter(live).take(LISTED) {
        let Some(row) = model.live.streams.get(target.row) else { continue };
        lines.push(Line::from(vec![
            Span::styled(format::fit(&target.key.to_string(), 12), theme.accent),
            Span::styled(format!("{}  ", row.addr), theme.text),
            Span::styled(
                format!("↓ {}  ↑ {}", format::bytes(row.counters.down), format::bytes(row.counters.up)),
                theme.dim,
            ),
        ]));
    }
    if open > LISTED {
        lines.push(Line::styled(format!("and {} more", open - LISTED), theme.dim));
    }
    lines
}

/// Returns the text of the dialog that confirms killing all streams of a user: its address, open streams and bytes.
fn kill_user_text(model: &Model, user: UserChannelId) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let rows = || {
        let rows = model.live.streams.order().iter().filter_map(|id| model.live.streams.get(*id));
        rows.filter(|row| row.is_live() && row.key.user == user)
    };
    let (down, up) = rows().fold((0, 0), |(down, up), row| (down + row.counters.down, up + row.counters.up));
    // One address has a user for each service: its streams of other services are not concerned.
    let from = rows().next().map(|row| format!("  {}  on :{}", row.addr.ip(), row.service.port));
    vec![
        Line::from(vec![
            Span::styled(user.to_string(), theme.accent.patch(theme.strong)),
            Span::styled(from.unwrap_or_default(), theme.text),
        ]),
        Line::styled(format!("{} open", format::counted(rows().count() as u64, "stream")), theme.text),
        Line::from(vec![
            Span::styled(format!("so far  ↓ {}", format::bytes(down)), theme.down),
            Span::styled(format!("  ↑ {}", format::bytes(up)), theme.up),
        ]),
        Line::styled("Their connections are reset at once.", theme.dim),
    ]
}

/// Returns the text of the dialog that confirms closing all channels of a proxy.
fn kick_text(model: &Model, id: ProxyId) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let name = Span::styled(model.live.proxies.short_name(id), theme.accent.patch(theme.strong));
    let Some(proxy) = model.live.proxies.connected().find(|proxy| proxy.id == id) else {
        return vec![Line::from(vec![name, Span::styled(" has already disconnected.", theme.text)])];
    };
    let (streams, channels) = (
        format::counted(proxy.streams, "open stream"),
        format::counted(proxy.channels.len() as u64, "channel"),
    );
    vec![
        Line::from(vec![name, Span::styled(format!("  {id}  {}", proxy.addr), theme.dim)]),
        Line::styled(format!("{streams} on {channels}"), theme.text),
        Line::styled("Its streams are reset at once. The proxy may reconnect.", theme.dim),
    ]
}

/// Formats the public port of a stream and the name of its proxy: the path from the user to the target.
fn route(model: &Model, row: StreamRow<'_>) -> String {
    match row.proxy {
        Some(proxy) => format!(":{} → {}", row.service.port, model.live.proxies.short_name(proxy)),
        None => format!(":{}", row.service.port),
    }
}

/// Returns the text of the dialog that confirms quitting while streams are open. `drains` is how long a drain may
/// take; `None` if draining is not offered.
fn quit_text(model: &Model, drains: Option<Duration>) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let open = model.live.streams.open_count() as u64;
    let are = if open == 1 { "is" } else { "are" };
    let drain = drains.map(|time| {
        let text = format!("Drain first: up to {} to finish.", format::age(time));
        Line::styled(text, theme.dim)
    });
    let mut lines =
        vec![Line::styled(format!("{} {are} open.", format::counted(open, "stream")), theme.text)];
    lines.extend(drain);
    lines.push(Line::styled("Quit now: resets all of them.", theme.dim));
    lines
}
