//! The command line: every action by its name, some with a word behind it.

use super::{orders, perform, screens, steer};
use crate::tui::{
    completion,
    keymap::Action,
    model::{CHART_WINDOWS, LoadMeasure, Model, NoticeLevel, Sort, SortBy, StreamFilter},
    msg::Effect,
    suggest::near_miss,
    theme::Theme,
};

/// Runs a line.
pub(super) fn run(model: &mut Model, line: &str) -> Vec<Effect> {
    let (name, word) = line.split_once(' ').map_or((line, ""), |(name, word)| (name, word.trim()));
    match name {
        "sort" => {
            with(model, SortBy::named(word), |model, by| screens::sort(model, Sort { by, reversed: false }))
        }
        "theme" => with(model, Theme::named(word), |model, theme| model.theme = theme),
        "window" => with(model, window(word), |model, window| model.display.chart_window = window),
        "filter" if !word.is_empty() => match StreamFilter::parse(word) {
            Ok(filter) => screens::set_filter(model, filter),
            Err(why) => model.notify(NoticeLevel::Warning, why.to_string()),
        },
        "load" => {
            let by = [("streams", LoadMeasure::Streams), ("bytes", LoadMeasure::Bytes)]
                .into_iter()
                .find(|(name, _)| *name == word);
            with(model, by, |model, (_, by)| model.display.load_measure = by);
        }
        // What vi and less taught everybody.
        "q" => return perform(model, Action::Quit),
        completion::PRIORITY if knows(model, completion::PRIORITY) => {
            if let Ok(priority) = word.parse() {
                return orders::give_priority(model, "changed", |_| priority);
            }
            which(model);
        }
        "limit" | "weight" | "policy" if !word.is_empty() && knows(model, name) => {
            return steer::by_name(model, name, word);
        }
        _ => {
            let commands = model.keymap.commands(model.command_context());
            if let Some((_, binding)) = commands.iter().find(|(known, _)| known == name) {
                return perform(model, binding.action);
            }
            let near = near_miss(name, completion::command_candidates(model, ""));
            let hint = near.map(|near| format!("; did you mean «{near}»?")).unwrap_or_default();
            model.notify(NoticeLevel::Warning, format!("there is no command «{name}»{hint}"));
        }
    }
    Vec::new()
}

fn with<T>(model: &mut Model, value: Option<T>, take: impl FnOnce(&mut Model, T)) {
    match value {
        Some(value) => take(model, value),
        None => which(model),
    }
}

fn which(model: &mut Model) {
    model.notify(NoticeLevel::Warning, "which one? ⇥ completes the word");
}

/// Whether this can be done here, by this operator.
fn knows(model: &Model, name: &str) -> bool {
    model.keymap.commands(model.command_context()).iter().any(|(known, _)| known == name)
}

fn window(word: &str) -> Option<usize> {
    let (_, words) = completion::WITH_WORDS.iter().find(|(name, _)| *name == "window")?;
    words.iter().position(|known| *known == word).filter(|at| *at < CHART_WINDOWS.len())
}
