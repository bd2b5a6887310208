//! The confirmation dialog: opens it, and translates its buttons into the intents that they confirm.

use crate::tui::{
    intent::{DialogIntent, Intent},
    model::{Button, Confirmation, Dialog, Model, NoticeLevel, Overlay},
};

/// What answers the question whether to quit; no single key does.
pub(super) const QUIT_ANSWERS: &str = "⇥ selects an answer and ⏎ gives it; Esc cancels";

/// Opens a confirmation dialog; its *Cancel* button has the focus.
pub(super) fn open(model: &mut Model, question: Confirmation) {
    model.overlay = Some(Overlay::Dialog(Dialog::new(question, model.now)));
}

/// Handles an intent of the open confirmation dialog. If the operator confirmed, closes the dialog and returns the
/// confirmed intent. `None` if the dialog was cancelled, which a notice says, or stays open.
pub(super) fn handle(model: &mut Model, intent: DialogIntent) -> Option<Intent> {
    let now = model.now;
    let Some(Overlay::Dialog(dialog)) = &mut model.overlay else { return None };
    let button = match intent {
        DialogIntent::Press => dialog.focused(),
        DialogIntent::Confirm if dialog.has_confirm_key() => dialog.confirm_button(),
        DialogIntent::Cancel => Button::Cancel,
        other => {
            match other {
                DialogIntent::NextButton => dialog.move_focus(true),
                DialogIntent::PreviousButton => dialog.move_focus(false),
                DialogIntent::TypeDigit(digit) => dialog.type_digit(digit),
                DialogIntent::DeleteDigit => dialog.delete_digit(),
                DialogIntent::Confirm => model.notify(NoticeLevel::Info, QUIT_ANSWERS),
                DialogIntent::Press | DialogIntent::Cancel => {}
            }
            return None;
        }
    };
    if !dialog.allows(button) && intent != DialogIntent::Cancel {
        // The dialog stays open: only the number confirms it.
        let number = dialog.required_number().unwrap_or_default();
        model.notify(NoticeLevel::Info, format!("type {number} and press ⏎ to confirm; Esc cancels"));
        return None;
    }
    if button != Button::Cancel && dialog.is_too_recent(now) {
        let text = "ignored: the key came at once with the question, as in a paste; press it again";
        model.notify(NoticeLevel::Warning, text);
        return None;
    }
    let question = dialog.question.clone();
    model.overlay = None;
    match (button, question) {
        (Button::Kill, Confirmation::Kill(targets)) => Some(Intent::Kill(targets)),
        (Button::Kill, Confirmation::KillUser { user, .. }) => Some(Intent::KillUser(user)),
        (Button::Kick, Confirmation::Kick { proxy, .. }) => Some(Intent::Kick(proxy)),
        (Button::Quit, _) => Some(Intent::QuitNow),
        (Button::Drain, _) => Some(Intent::DrainServer),
        (_, question) => {
            let text = cancelled_text(model, &question);
            model.notify(NoticeLevel::Info, text);
            None
        }
    }
}

/// Returns the notice about a cancelled dialog: an operator who meant to confirm must not believe that it was done.
fn cancelled_text(model: &Model, question: &Confirmation) -> String {
    match question {
        Confirmation::Kill(targets) => match targets.as_slice() {
            [only] => format!("cancelled: {} was not killed", only.key),
            many => format!("cancelled: none of {} streams was killed", many.len()),
        },
        Confirmation::KillUser { user, .. } => format!("cancelled: user {user} was not killed"),
        Confirmation::Kick { proxy, .. } => {
            format!("cancelled: {} was not kicked", model.live.proxies.short_name(*proxy))
        }
        Confirmation::Quit { .. } => "cancelled: the server continues".to_owned(),
    }
}
