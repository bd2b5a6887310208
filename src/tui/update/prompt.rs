//! The prompt: opens it, edits its text, and translates what was accepted into an intent.

use super::navigation;
use crate::control::{StreamFilter, parse_limits, parse_policy, parse_weight};
use crate::tui::{
    command_line,
    completion::Completion,
    intent::{Intent, PromptIntent},
    keymap,
    model::{Cursor, LineEdit, LineEditOp, Model, NoticeLevel, Overlay, Prompt, PromptKind, RowId},
    terminal::Key,
};

/// Opens a prompt of this kind, with `text` as its initial content and the text cursor at the end.
pub(super) fn open(model: &mut Model, kind: PromptKind, text: String) {
    model.overlay =
        Some(Overlay::Prompt(Prompt { kind, line: LineEdit::new(text), recalled: 0, error: None }));
}

/// Opens the prompt for the filter of the streams table. It starts empty, as what is typed mostly replaces the filter;
/// `↑` recalls the filter in effect.
pub(super) fn open_filter(model: &mut Model) {
    let before = model.streams_screen.filter.text().to_owned();
    let kind = PromptKind::Filter { before: before.clone(), cursor: model.streams_screen.cursor };
    model.line_history.push(&kind, &before);
    open(model, kind, String::new());
    apply_while_typing(model);
}

/// Opens the prompt for the filter of the log screen: the text that shown records contain. It starts empty, like that
/// of the streams table.
pub(super) fn open_log_filter(model: &mut Model) {
    let before = model.log_screen.filter().to_owned();
    let kind = PromptKind::LogFilter { before: before.clone() };
    model.line_history.push(&kind, &before);
    open(model, kind, String::new());
    apply_while_typing(model);
}

/// Returns the intent that inserts the character of a key into the open prompt; `None` for a key without a character.
/// Called for keys that no binding of the prompt uses.
pub(super) fn intent_of_char(key: Key) -> Option<Intent> {
    keymap::typed_char(key).map(|c| Intent::Prompt(PromptIntent::Edit(LineEditOp::Insert(c))))
}

/// Handles an intent of the open prompt: edits, completes, accepts or cancels its text. Returns the intent that
/// follows from an accepted text.
pub(super) fn handle(model: &mut Model, intent: PromptIntent) -> Option<Intent> {
    let Some(Overlay::Prompt(prompt)) = &model.overlay else { return None };
    match intent {
        PromptIntent::Accept => return accept(model),
        PromptIntent::Cancel => cancel(model),
        PromptIntent::Complete => complete(model),
        PromptIntent::Recall { older } => recall(model, older),
        // Backspace on an empty line leaves the prompt.
        PromptIntent::Edit(LineEditOp::Backspace) if prompt.line.text().is_empty() => cancel(model),
        PromptIntent::Edit(op) => edit(model, op),
    }
    None
}

/// Applies an editing operation to the text of the open prompt, removes its error, and applies the text if the prompt
/// is a filter.
fn edit(model: &mut Model, op: LineEditOp) {
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line.edit(op);
        prompt.error = None;
    }
    apply_while_typing(model);
}

/// Replaces the text of the open prompt with an older or a newer line of the history.
fn recall(model: &mut Model, older: bool) {
    let Some(Overlay::Prompt(prompt)) = &mut model.overlay else { return };
    if let Some((number, text)) = model.line_history.recall(prompt, older) {
        (prompt.recalled, prompt.line, prompt.error) = (number, LineEdit::new(text), None);
        apply_while_typing(model);
    }
}

/// Applies the text of the open filter or log filter prompt at each change. Other prompts have no effect before they
/// are accepted.
fn apply_while_typing(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = &mut model.overlay else { return };
    let text = prompt.line.text().to_owned();
    match prompt.kind {
        PromptKind::Filter { cursor, .. } => match StreamFilter::parse(&text) {
            Ok(filter) => apply_filter(model, filter, cursor),
            // The last valid filter stays in effect.
            Err(error) => prompt.error = Some(error.to_string()),
        },
        PromptKind::LogFilter { .. } => model.log_screen.set_filter(text),
        PromptKind::Help
        | PromptKind::Command
        | PromptKind::Limit(_)
        | PromptKind::Weight(_)
        | PromptKind::Policy(_) => {}
    }
}

/// Filters the streams table, and selects the row that `cursor` (from before the prompt opened) selects, if the
/// filter lists it.
fn apply_filter(model: &mut Model, filter: StreamFilter, cursor: Cursor<RowId>) {
    model.set_stream_cursor(cursor);
    navigation::set_filter(model, filter);
}

/// Closes the prompt and returns the intent that its text stands for. A prompt with invalid text stays open and shows
/// the error beside the text.
fn accept(model: &mut Model) -> Option<Intent> {
    let Some(Overlay::Prompt(prompt)) = &mut model.overlay else { return None };
    if prompt.error.is_some() {
        return None;
    }
    let text = prompt.line.text().trim().to_owned();
    model.line_history.push(&prompt.kind, &text);
    let parsed = match &prompt.kind {
        // An empty value changes nothing.
        PromptKind::Limit(_) | PromptKind::Weight(_) | PromptKind::Policy(_) | PromptKind::Command
            if text.is_empty() =>
        {
            Ok(None)
        }
        PromptKind::Limit(target) => {
            parse_limits(&text).map(|changes| Some(Intent::SetLimit(Some(target.clone()), changes)))
        }
        PromptKind::Weight(proxy) => {
            parse_weight(&text).map(|weight| Some(Intent::SetWeight(Some(*proxy), weight)))
        }
        PromptKind::Policy(service) => {
            parse_policy(&text).map(|policy| Some(Intent::SetPolicy(Some(service.clone()), policy)))
        }
        PromptKind::Help => {
            model.overlay = Some(Overlay::Help { scroll: 0, search: text });
            return None;
        }
        PromptKind::Command => {
            model.overlay = None;
            return match command_line::parse(&model.keymap, model.command_context(), &text) {
                Ok(intent) => Some(intent),
                Err(error) => {
                    model.notify(NoticeLevel::Warning, error);
                    None
                }
            };
        }
        // These have been applied while they were typed.
        PromptKind::Filter { .. } | PromptKind::LogFilter { .. } => Ok(None),
    };
    match parsed {
        Ok(intent) => {
            model.overlay = None;
            intent
        }
        Err(error) => {
            prompt.error = Some(error);
            None
        }
    }
}

/// Closes the prompt, and restores the filter that was in effect before it opened.
fn cancel(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = model.overlay.take() else { return };
    match prompt.kind {
        PromptKind::Filter { before, cursor } => {
            apply_filter(model, StreamFilter::parse(&before).unwrap_or_default(), cursor);
        }
        PromptKind::LogFilter { before } => model.log_screen.set_filter(before),
        PromptKind::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() }),
        PromptKind::Limit(_) | PromptKind::Weight(_) | PromptKind::Policy(_) => {
            model.notify(NoticeLevel::Info, "cancelled: nothing was changed");
        }
        PromptKind::Command => {}
    }
}

/// Completes the last word of the open prompt as far as all its possible completions agree.
fn complete(model: &mut Model) {
    let Some(text) = Completion::of(model).completed() else { return };
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line = LineEdit::new(text);
    }
    apply_while_typing(model);
}
