//! Translates keys, bursts of keys and pasted text into intents. A key acts only on what the operator has seen: text
//! that arrives faster than a person types confirms nothing and changes nothing, whatever letters it contains.

use std::time::Duration;

use super::{dispatch, prompt};
use crate::tui::{
    format,
    intent::{ColumnListIntent, DialogIntent, HelpIntent, Intent, PromptIntent},
    model::{LineEditOp, Model, NoticeLevel, Overlay},
    msg::Effect,
    terminal::{Key, KeyCode, KeyModifiers},
};

/// The time after a burst during which further keys belong to it: the rest of a paste that did not arrive in one piece.
/// Shorter than the time that a person needs for another key, once it is seen that a burst was ignored.
const BURST_GAP: Duration = Duration::from_millis(60);

/// The time between two different keys below which the second one is part of a paste that arrives letter by letter, as
/// over a slow connection. A fast typist needs 80 ms on average. A key that is held repeats sooner, and is the same
/// one.
const SLOW_PASTE_GAP: Duration = Duration::from_millis(40);

/// Performs what a key stands for in the present context. Returns the effects.
pub(super) fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    if model.burst_until.is_some_and(|until| model.now < until) {
        return burst(model, &[key]);
    }
    let now = model.now;
    let last = model.last_key.replace((key, now));
    let is_too_soon = last.is_some_and(|(last, at)| {
        last != key && is_text(last) && is_text(key) && now.saturating_duration_since(at) < SLOW_PASTE_GAP
    });
    // Text that is typed into an overlay may be as fast as it likes; a dialog has its own pause. Of a slow paste the
    // first letter cannot be told from a key: only a delay of every action could.
    if is_too_soon && model.overlay.is_none() {
        return burst(model, &[key]);
    }
    match intent_of(model, key) {
        Some(intent) => return dispatch::perform(model, intent),
        None if model.overlay.is_none() => {
            let why = model.keymap.why_unbound(model.context(), key);
            model.notify(NoticeLevel::Info, why);
        }
        None => {}
    }
    Vec::new()
}

/// Returns whether pasted text may contain the character of this key.
fn is_text(key: Key) -> bool {
    let is_plain = !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    is_plain && matches!(key.code, KeyCode::Char(_) | KeyCode::Enter | KeyCode::Tab)
}

/// Performs a burst of keys as far as it cannot do harm: a prompt takes them as text, but is not accepted by them, and
/// keys that only move a cursor move it. Otherwise the whole burst is ignored, and a notice says so.
pub(super) fn burst(model: &mut Model, keys: &[Key]) -> Vec<Effect> {
    model.burst_until = Some(model.now + BURST_GAP);
    if matches!(model.overlay, Some(Overlay::Prompt(_))) {
        type_burst(model, keys);
        return Vec::new();
    }
    let moves: Option<Vec<Intent>> =
        keys.iter().map(|key| intent_of(model, *key).filter(is_movement)).collect();
    match moves {
        Some(moves) => moves.into_iter().flat_map(|intent| dispatch::perform(model, intent)).collect(),
        None => {
            // Fits into sixty columns.
            let keys = match keys.len() {
                1 => "a key right after others".to_owned(),
                count => format!("{count} keys at once"),
            };
            let text = format!("ignored: {keys}, as in a paste; type slower");
            model.notify(NoticeLevel::Warning, text);
            Vec::new()
        }
    }
}

/// Types a burst of keys into the open prompt, up to a key that closes it. Enter is ignored: it may be the end of a
/// pasted line.
fn type_burst(model: &mut Model, keys: &[Key]) {
    for key in keys {
        match intent_of(model, *key) {
            Some(Intent::Prompt(PromptIntent::Accept)) => {
                let text = "⏎ ignored: it came at once with other keys, as in a paste; press it again";
                model.notify(NoticeLevel::Warning, text);
            }
            Some(Intent::Prompt(PromptIntent::Cancel)) => {
                prompt::handle(model, PromptIntent::Cancel);
                return;
            }
            Some(Intent::Prompt(intent)) => {
                prompt::handle(model, intent);
            }
            _ => {}
        }
    }
}

/// Inserts pasted text into the open prompt, as one line. Elsewhere a paste has no effect, and a notice says so.
pub(super) fn paste(model: &mut Model, text: &str) {
    if !matches!(model.overlay, Some(Overlay::Prompt(_))) {
        let characters = format::counted(text.chars().count() as u64, "character");
        let text = format!("paste of {characters} ignored: text can be pasted into a prompt only");
        return model.notify(NoticeLevel::Info, text);
    }
    // A line break or tab separates words; at the end it is what a selection of whole lines ends with.
    for c in text.trim().chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        prompt::handle(model, PromptIntent::Edit(LineEditOp::Insert(c)));
    }
}

/// Returns whether the intent only moves a cursor or scrolls.
fn is_movement(intent: &Intent) -> bool {
    matches!(
        intent,
        Intent::Move(_) | Intent::Help(HelpIntent::Scroll(_)) | Intent::Columns(ColumnListIntent::Move(_))
    )
}

/// Returns the intent of a key in the present context: that of its binding, else the insertion of its character into
/// the open prompt or the number of the open dialog. `None` for a key without meaning here.
fn intent_of(model: &Model, key: Key) -> Option<Intent> {
    if let Some(Overlay::Dialog(dialog)) = &model.overlay
        && dialog.required_number().is_some()
    {
        match key.code {
            KeyCode::Char(digit @ '0'..='9') => return Some(Intent::Dialog(DialogIntent::TypeDigit(digit))),
            KeyCode::Backspace => return Some(Intent::Dialog(DialogIntent::DeleteDigit)),
            _ => {}
        }
    }
    let bound = model.keymap.intent(model.context(), key).cloned();
    bound.or_else(|| match model.overlay {
        Some(Overlay::Prompt(_)) => prompt::intent_of_char(key),
        _ => None,
    })
}
