//! The command line: every action by its name, some with a word behind it.

use super::{orders, perform, screens, steer};
use crate::tui::{
    keymap::Action,
    model::{CHART_WINDOWS, LoadMeasure, Model, NoticeLevel, Sort, SortBy, StreamFilter},
    msg::Effect,
    suggest::near_miss,
    theme::Theme,
};

const PRIORITY: &str = "priority";

/// Commands that act: they are there only where the table of keys has them.
const ACTS: [&str; 4] = [PRIORITY, "limit", "weight", "policy"];

/// Commands that take a word, and what the word may be.
pub(crate) const WITH_WORDS: [(&str, &[&str]); 9] = [
    ("sort", &SortBy::NAMES),
    ("theme", &Theme::NAMES),
    ("window", &["30s", "2m", "5m", "15m", "30m", "1h"]),
    ("filter", &[]),
    (PRIORITY, &["background", "low", "normal", "high", "urgent"]),
    ("limit", &["down", "up", "off"]),
    ("weight", &[]),
    ("policy", &["round-robin", "weighted", "least-streams", "peak-ewma"]),
    ("load", &["streams", "bytes"]),
];

/// What the last word of the line may become.
pub(super) fn candidates(model: &Model, line: &str) -> Vec<String> {
    if let Some((name, _)) = line.split_once(' ') {
        return words(name);
    }
    let mut names: Vec<String> = model
        .keymap
        .commands(model.command_context())
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| is_command(name))
        .collect();
    // What acts is among them already, where it may be done at all.
    names.extend(
        WITH_WORDS.iter().map(|(name, _)| (*name).to_owned()).filter(|name| !ACTS.contains(&name.as_str())),
    );
    names.sort();
    names.dedup();
    names
}

/// What the word behind a command may be.
pub(super) fn words(name: &str) -> Vec<String> {
    let words = WITH_WORDS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, words)| *words);
    words.iter().map(ToString::to_string).collect()
}

/// Moving about by name is no use.
fn is_command(name: &str) -> bool {
    !matches!(
        name,
        "up" | "down"
            | "page-up"
            | "page-down"
            | "half-page-up"
            | "half-page-down"
            | "first"
            | "last"
            | "back"
            | "command-line"
            | "close"
            | "more"
            | "less"
    )
}

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
        PRIORITY if knows(model, PRIORITY) => {
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
            let near = near_miss(name, candidates(model, ""));
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
    let (_, words) = WITH_WORDS.iter().find(|(name, _)| *name == "window")?;
    words.iter().position(|known| *known == word).filter(|at| *at < CHART_WINDOWS.len())
}
