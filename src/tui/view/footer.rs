//! The two lines at the bottom: notices, and key hints or the open prompt.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use unicode_width::UnicodeWidthStr;

use super::draw_line;
use crate::control::LimitScope;
use crate::tui::{
    completion::Completion,
    format::{self, truncate, truncate_start},
    intent::{DialogIntent, Intent, JoinCommandIntent, KillScope, PauseChange, PriorityChange},
    keymap::{Binding, InputContext},
    labels::Role,
    model::{
        CursorStep, LimitTarget, Model, Notice, NoticeLevel, Overlay, Prompt, PromptKind, ProxyLine,
        Selection,
    },
    source::SourceState,
};

/// Draws the notice row: the outcome of the operator's last action, or else the progress of a drain of the server.
pub(crate) fn draw_notice(model: &Model, area: Rect, buf: &mut Buffer) {
    if let Some(line) = notice_line(model) {
        draw_line(buf, area.x, area.y, area, line);
    }
}

/// Returns the outcome of the operator's last action, or else that the connection to the server is lost, or the
/// progress of a drain of the server; `None` if there is none of them.
fn notice_line(model: &Model) -> Option<Line<'static>> {
    let theme = &model.theme;
    if let Some(notice) = &model.notice {
        let (mark, style) = match notice.level {
            NoticeLevel::Success => ("✓", theme.ok),
            NoticeLevel::Info => ("·", theme.text),
            NoticeLevel::Warning => ("!", theme.warn),
        };
        return Some(Line::styled(format!(" {mark} {}", notice.text), style));
    }
    if let SourceState::Reconnecting(why) = &model.source_state {
        // What matters most comes first: the line may be cut. The reason may have a colon of its own.
        let text = format!(" ! connection lost, what is shown is old · reconnecting · {why}");
        return Some(Line::styled(text, theme.warn));
    }
    model.server_status.is_draining.then(|| {
        let open = format::counted(model.shown().streams.open_count() as u64, "stream");
        let left =
            model.server_status.drain_deadline.map(|end| end.saturating_duration_since(model.live.now));
        let left = left.map(|left| format!(", {} left", format::age(left))).unwrap_or_default();
        let again = if model.server_status.drain_requested { "; q asks to end them now" } else { "" };
        Line::styled(format!(" ! draining: {open} still open{left}{again}"), theme.warn)
    })
}

/// Draws the last row of the terminal: the key hints of the current context, as many as fit, or the open prompt.
pub(crate) fn draw_keys(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    if let Some(Overlay::Prompt(prompt)) = &model.overlay {
        return draw_prompt(model, prompt, area, buf);
    }
    // On a low terminal the notice replaces the key hints, but not those of a question that came after it.
    let is_covered = |notice: &Notice| model.overlay.is_none() || notice.is_about_overlay;
    if model.layout().notice.height == 0
        && model.notice.as_ref().map_or(model.overlay.is_none(), is_covered)
        && let Some(line) = notice_line(model)
    {
        return draw_line(buf, area.x, area.y, area, line);
    }
    let mut spans = vec![Span::raw(" ")];
    if matches!(&model.overlay, Some(Overlay::Dialog(dialog)) if dialog.lacks_number()) {
        spans.push(Span::styled("0-9", theme.accent));
        spans.push(Span::styled(" number  ", theme.dim));
    }
    let taken = spans.iter().map(Span::width).sum::<usize>();
    let room = usize::from(area.width).saturating_sub(taken);
    for (entry, word) in model.keymap.footer(model.context(), room, |binding| key_word(model, binding)) {
        spans.push(Span::styled(entry.shown.clone(), theme.accent));
        spans.push(Span::styled(format!(" {word}  "), theme.dim));
    }
    draw_line(buf, area.x, area.y, area, Line::from(spans));
}

/// Returns the word that the footer shows for a key binding; `None` for one that has no effect at present.
fn key_word(model: &Model, binding: &'static Binding) -> Option<&'static str> {
    let intent = &binding.intent;
    // On a new server the first proxy is what the operator needs, and there is nothing yet that the other keys act on.
    let is_unused = model.server_status.has_sample && model.shown().proxies.connected().next().is_none();
    if is_unused && model.overlay.is_none() && matches!(intent, Intent::ShowJoinCommand) {
        return model.labels.join.is_some().then_some("add a proxy");
    }
    if model.labels.role == Role::Replay && *intent == Intent::ToggleFreeze && model.overlay.is_none() {
        let is_paused = matches!(&model.source_state, SourceState::Playing(playback) if playback.is_paused);
        return Some(if is_paused { "play" } else { "pause" });
    }
    let has_effect = match (model.context(), &model.overlay) {
        (_, Some(Overlay::Dialog(dialog))) => match intent {
            Intent::Dialog(DialogIntent::Press) => {
                return dialog.allows(dialog.focused()).then(|| dialog.focused().action());
            }
            Intent::Dialog(DialogIntent::Confirm) => {
                return (dialog.has_confirm_key() && !dialog.lacks_number())
                    .then(|| dialog.confirm_button().action());
            }
            _ => true,
        },
        (InputContext::AddProxy, _) => {
            model.labels.secret.is_some()
                || !matches!(intent, Intent::JoinCommand(JoinCommandIntent::ToggleSecret))
        }
        (InputContext::Logs, _) => {
            model.shows_log_targets()
                || !matches!(intent, Intent::Move(CursorStep::By(_)) | Intent::ChangeLogLevels { .. })
        }
        (InputContext::Detail, _) => {
            model.selected().is_some_and(|(_, row)| row.is_live()) || !acts_on_open_stream(intent)
        }
        (_, None) => match model.selection() {
            None => !acts_on_row(intent),
            Some(Selection::Proxy(ProxyLine::Service(_))) => !acts_on_proxy(intent),
            Some(Selection::Stream(_)) if model.streams_screen.marks.is_empty() => {
                model.selected().is_some_and(|(_, row)| row.is_live()) || !acts_on_open_stream(intent)
            }
            Some(_) => true,
        },
        _ => true,
    };
    has_effect.then_some(binding.short)
}

/// Returns whether an intent has no effect on a stream that has ended.
fn acts_on_open_stream(intent: &Intent) -> bool {
    matches!(
        intent,
        Intent::AskToKill(KillScope::Selection)
            | Intent::Pause(PauseChange::Toggle)
            | Intent::SetPriority(PriorityChange::Raise)
            | Intent::AskForLimit
    )
}

/// Returns whether an intent of the proxies screen needs a selected proxy or channel.
fn acts_on_proxy(intent: &Intent) -> bool {
    matches!(intent, Intent::Open | Intent::AskToKick | Intent::AskForWeight | Intent::Drain(_))
}

/// Returns whether an intent needs a selected row.
fn acts_on_row(intent: &Intent) -> bool {
    matches!(
        intent,
        Intent::Open
            | Intent::AskToKill(_)
            | Intent::AskToKick
            | Intent::AskForLimit
            | Intent::AskForPolicy
            | Intent::AskForWeight
            | Intent::Drain(_)
            | Intent::Pause(_)
            | Intent::SetPriority(_)
            | Intent::ShowStreamsOfSelected
            | Intent::ToggleMark
    )
}

/// Returns the label before the typed text of a prompt, in at most about `width` cells: what the prompt asks for, and
/// of which object.
fn prompt_label(model: &Model, asked: &PromptKind, width: usize) -> String {
    let proxies = &model.live.proxies;
    let (what, name) = match asked {
        PromptKind::Command => return ":".to_owned(),
        PromptKind::Filter { .. } | PromptKind::LogFilter { .. } | PromptKind::Help => return "/".to_owned(),
        PromptKind::Weight(proxy) => {
            let now = proxies.get(*proxy).map_or(String::new(), |proxy| format!(", now {}", proxy.weight));
            ("weight of", proxies.short_name(*proxy) + &now)
        }
        PromptKind::Policy(service) => ("policy of", format!(":{service}")),
        PromptKind::Limit(LimitTarget::Scope(LimitScope::Proxy(proxy))) => {
            ("limit", proxies.short_name(*proxy))
        }
        PromptKind::Limit(LimitTarget::Scope(scope)) => ("limit", scope.to_string()),
        PromptKind::Limit(LimitTarget::Streams(rows)) => match rows.as_slice() {
            [only] => {
                ("limit", model.live.streams.get(*only).map_or(String::new(), |row| row.key.to_string()))
            }
            many => ("limit", format::counted(many.len() as u64, "stream")),
        },
    };
    format!("{what} {}: ", truncate(&name, width.saturating_sub(what.len() + 3).max(6)))
}

/// Returns the possible completions of the last word in the prompt, truncated to `width` cells; empty once the word
/// is complete.
fn completions(model: &Model, prompt: &Prompt, width: usize) -> String {
    let Completion { prefix, candidates } = Completion::of(model);
    match candidates.as_slice() {
        [only] if prompt.line.text() == format!("{prefix}{only}") => String::new(),
        fitting => truncate(&fitting.join("  "), width),
    }
}

/// Draws the open prompt: its label and the typed text, then the error in the text, a hint, or the possible
/// completions.
fn draw_prompt(model: &Model, prompt: &Prompt, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let mark = prompt_label(model, &prompt.kind, usize::from(area.width / 2));
    let mark = format!(" {mark}");
    let (before, after) = prompt.line.parts();
    let mut rest = after.chars();
    // The cursor is a styled cell; the terminal's own cursor stays hidden.
    let under = rest.next().map_or(" ".to_owned(), String::from);
    let mut spans = vec![
        Span::styled(mark.clone(), theme.accent),
        Span::styled(
            truncate_start(before, usize::from(area.width).saturating_sub(mark.width() + 5).max(1)),
            theme.text,
        ),
        Span::styled(under, theme.button),
        Span::styled(rest.as_str().to_owned(), theme.text),
        Span::raw("  "),
    ];
    let taken = spans.iter().map(Span::width).sum::<usize>();
    let room = usize::from(area.width).saturating_sub(taken + 1);
    if let Some(wrong) = &prompt.error {
        spans.push(Span::styled(wrong.clone(), theme.warn));
    } else if prompt.line.text().is_empty() {
        let hint = match prompt.kind {
            PromptKind::Filter { .. } => {
                "words  proxy:edge  user=10.0.0.7  content:iso  state:open  down>1M  !not  /regex/  ↑ earlier"
            }
            PromptKind::LogFilter { .. } => "text that a record must contain",
            PromptKind::Help => "text that an entry must contain",
            PromptKind::Command => "command name; ⇥ completes it, ↑ recalls",
            PromptKind::Limit(_) => "down 10M  up 500K  1M (both)  off",
            PromptKind::Weight(_) => "1 to 1000",
            PromptKind::Policy(_) => "round-robin  weighted  least-streams  peak-ewma",
        };
        spans.push(Span::styled(fitting_examples(hint, room), theme.faint));
    } else {
        spans.push(Span::styled(completions(model, prompt, room), theme.faint));
    }
    draw_line(buf, area.x, area.y, area, Line::from(spans));
}

/// Returns the examples of a hint, which two blanks separate, that fit into `room` cells as a whole; at least the first
/// one.
fn fitting_examples(hint: &str, room: usize) -> &str {
    let ends = hint.match_indices("  ").map(|(at, _)| at).chain([hint.len()]);
    let fits = |end: &usize| hint[..*end].width() <= room;
    &hint[..ends.filter(fits).last().unwrap_or_else(|| hint.find("  ").unwrap_or(hint.len()))]
}
