//! Completion of what is typed into a prompt: command names, their arguments, and the fields of a filter.

use super::{
    model::{Model, Overlay, PromptKind, SortBy, StreamFilter},
    theme::Theme,
};

pub(crate) const PRIORITY: &str = "priority";

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
pub(crate) fn command_candidates(model: &Model, line: &str) -> Vec<String> {
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
pub(crate) fn words(name: &str) -> Vec<String> {
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

/// What the word that is being typed may become, and what stands before it.
pub(crate) fn candidates(model: &Model) -> (String, Vec<String>) {
    let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Default::default() };
    let text = prompt.line.text();
    let (kept, word) = match text.rsplit_once(' ') {
        Some((kept, word)) => (format!("{kept} "), word),
        None => (String::new(), text),
    };
    let candidates: Vec<String> = match prompt.kind {
        PromptKind::Command => command_candidates(model, text),
        PromptKind::Limit(_) => words("limit"),
        PromptKind::Policy(_) => words("policy"),
        PromptKind::Filter { .. } => {
            StreamFilter::FIELDS.iter().chain(&StreamFilter::FIGURES).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    (kept, candidates.into_iter().filter(|name| name.starts_with(word)).collect())
}
