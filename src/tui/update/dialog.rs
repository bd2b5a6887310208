//! The confirmation dialog: opens it, and translates its buttons into the intents that they confirm.

use crate::tui::{
    intent::{DialogIntent, Intent},
    model::{Button, Confirmation, Dialog, Model, NoticeLevel, Overlay},
};

/// Opens a confirmation dialog; its *Cancel* button has the focus.
pub(super) fn open(model: &mut Model, question: Confirmation) {
    model.overlay = Some(Overlay::Dialog(Dialog::new(question)));
}

/// Handles an intent of the open confirmation dialog. If the operator confirmed, closes the dialog and returns the
/// confirmed intent. `None` if the dialog was cancelled or stays open.
pub(super) fn handle(model: &mut Model, intent: DialogIntent) -> Option<Intent> {
    let Some(Overlay::Dialog(dialog)) = &mut model.overlay else { return None };
    let button = match intent {
        DialogIntent::Press => dialog.focused(),
        DialogIntent::Confirm => dialog.confirm_button(),
        DialogIntent::Drain if dialog.buttons().contains(&Button::Drain) => Button::Drain,
        DialogIntent::Cancel => Button::Cancel,
        other => {
            match other {
                DialogIntent::NextButton => dialog.move_focus(true),
                DialogIntent::PreviousButton => dialog.move_focus(false),
                DialogIntent::TypeDigit(digit) => dialog.type_digit(digit),
                DialogIntent::DeleteDigit => dialog.delete_digit(),
                _ => {}
            }
            return None;
        }
    };
    if !dialog.allows(button) {
        // The dialog stays open: only the number confirms it.
        let number = dialog.required_number().unwrap_or_default();
        model.notify(NoticeLevel::Info, format!("type {number} to confirm"));
        return None;
    }
    let question = dialog.question.clone();
    model.overlay = None;
    match (button, question) {
        (Button::Kill, Confirmation::Kill(targets)) => Some(Intent::Kill(targets)),
        (Button::Kill, Confirmation::KillUser { user, .. }) => Some(Intent::KillUser(user)),
        (Button::Kick, Confirmation::Kick { proxy, .. }) => Some(Intent::Kick(proxy)),
        (Button::Quit, _) => Some(Intent::QuitNow),
        (Button::Drain, _) => Some(Intent::Interrupt),
        _ => None,
    }
}
