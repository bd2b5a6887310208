//! The open help: scrolling and searching.

use super::prompt;
use crate::tui::{
    help,
    intent::HelpIntent,
    model::{CursorStep, Model, Overlay, PromptKind},
};

/// Opens the help over the current screen, at its first line and without a search.
pub(super) fn open(model: &mut Model) {
    model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() });
}

/// Handles an intent of the open help: scrolls, opens the search prompt, or closes the help.
pub(super) fn handle(model: &mut Model, intent: HelpIntent) {
    let Some(Overlay::Help { scroll, .. }) = &model.overlay else { return };
    let scroll = *scroll;
    match intent {
        HelpIntent::Scroll(step) => {
            let (page, last) = help::extent(model);
            let pages = |count: isize| count.saturating_mul(isize::try_from(page).unwrap_or(isize::MAX));
            let to = match step {
                CursorStep::By(lines) => scroll.saturating_add_signed(lines),
                CursorStep::Pages(count) => scroll.saturating_add_signed(pages(count)),
                CursorStep::HalfPages(count) => scroll.saturating_add_signed(pages(count) / 2),
                CursorStep::First => 0,
                CursorStep::Last => last,
            };
            if let Some(Overlay::Help { scroll, .. }) = &mut model.overlay {
                *scroll = to.min(last);
            }
        }
        HelpIntent::Search => prompt::open(model, PromptKind::Help, String::new()),
        HelpIntent::Close => model.overlay = None,
    }
}
