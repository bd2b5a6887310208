//! Lines that are typed: the filter, a word to find, a command.

use super::{command, screens, steer};
use crate::tui::{
    completion,
    keymap::{self, Action},
    model::{Cursor, LineEdit, LineEditOp, Model, Overlay, Prompt, PromptKind, RowId, StreamFilter},
    msg::Effect,
    terminal::Key,
};

pub(super) fn ask(model: &mut Model, kind: PromptKind, text: String) {
    model.overlay = Some(Overlay::Prompt(Prompt { kind, line: LineEdit::new(text), error: None }));
}

pub(super) fn ask_filter(model: &mut Model) {
    let before = model.streams_screen.filter.text().to_owned();
    ask(model, PromptKind::Filter { before: before.clone(), cursor: model.streams_screen.cursor }, before);
}

pub(super) fn ask_log_filter(model: &mut Model) {
    let before = model.log_screen.filter().to_owned();
    ask(model, PromptKind::LogFilter { before: before.clone() }, before);
}

pub(super) fn ask_command(model: &mut Model) {
    ask(model, PromptKind::Command, String::new());
}

pub(super) fn ask_help(model: &mut Model) {
    ask(model, PromptKind::Help, String::new());
}

/// A key that no binding wants: a character of the line.
pub(super) fn type_in(model: &mut Model, key: Key) {
    if let Some(c) = keymap::typed(key) {
        edit(model, LineEditOp::Insert(c));
    }
}

fn edit(model: &mut Model, edit: LineEditOp) {
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line.edit(edit);
        prompt.error = None;
    }
    changed(model);
}

/// What is typed takes effect while it is typed, where that harms nothing.
fn changed(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = &mut model.overlay else { return };
    let text = prompt.line.text().to_owned();
    match prompt.kind {
        PromptKind::Filter { cursor, .. } => match StreamFilter::parse(&text) {
            Ok(filter) => try_filter(model, filter, cursor),
            // The last one that could be understood stays.
            Err(why) => prompt.error = Some(why.to_string()),
        },
        PromptKind::LogFilter { .. } => model.log_screen.set_filter(text),
        PromptKind::Help
        | PromptKind::Command
        | PromptKind::Limit(_)
        | PromptKind::Weight(_)
        | PromptKind::Policy(_) => {}
    }
}

/// Filters the table, and selects what was selected before anything was typed, where it is shown.
fn try_filter(model: &mut Model, filter: StreamFilter, cursor: Cursor<RowId>) {
    model.set_stream_cursor(cursor);
    screens::set_filter(model, filter);
}

/// A key that means something to the line.
pub(super) fn in_prompt(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Press => return take(model),
        Action::Close => cancel(model),
        Action::Complete => complete(model),
        Action::Backspace => {
            let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Vec::new() };
            // One more than there is to take back: the operator wants out.
            if prompt.line.text().is_empty() {
                cancel(model);
            } else {
                edit(model, LineEditOp::Backspace);
            }
        }
        Action::Delete => edit(model, LineEditOp::Delete),
        Action::DeleteWord => edit(model, LineEditOp::DeleteWord),
        Action::DeleteAll => edit(model, LineEditOp::DeleteAll),
        Action::Left => edit(model, LineEditOp::Left),
        Action::Right => edit(model, LineEditOp::Right),
        Action::First => edit(model, LineEditOp::Home),
        Action::Last => edit(model, LineEditOp::End),
        _ => {}
    }
    Vec::new()
}

fn take(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Vec::new() };
    if prompt.error.is_some() {
        return Vec::new();
    }
    let (what, text) = (prompt.kind.clone(), prompt.line.text().trim().to_owned());
    if let Some(result) = steer::answer(model, &what, &text) {
        match (result, &mut model.overlay) {
            (Ok(effects), overlay) => {
                *overlay = None;
                return effects;
            }
            // The line stays, to be mended.
            (Err(why), Some(Overlay::Prompt(prompt))) => prompt.error = Some(why),
            (Err(_), _) => {}
        }
        return Vec::new();
    }
    model.overlay = None;
    match what {
        PromptKind::Command if !text.is_empty() => return command::run(model, &text),
        PromptKind::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: text }),
        _ => {}
    }
    Vec::new()
}

fn cancel(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = model.overlay.take() else { return };
    match prompt.kind {
        PromptKind::Filter { before, cursor } => {
            try_filter(model, StreamFilter::parse(&before).unwrap_or_default(), cursor);
        }
        PromptKind::LogFilter { before } => model.log_screen.set_filter(before),
        PromptKind::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() }),
        PromptKind::Command | PromptKind::Limit(_) | PromptKind::Weight(_) | PromptKind::Policy(_) => {}
    }
}

/// Goes on with the word as far as there is only one way to.
fn complete(model: &mut Model) {
    let (kept, fitting) = completion::candidates(model);
    let mut fitting = fitting.iter();
    let Some(first) = fitting.next() else { return };
    let common = fitting.fold(first.as_str(), |common, name| {
        let same = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        &common[..same]
    });
    let text = format!("{kept}{common}");
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line = LineEdit::new(text);
    }
    changed(model);
}
