//! Completion of the last word that is being typed into a prompt: command names, their arguments, and the fields of a
//! filter.

use super::{
    command_line,
    model::{Model, Overlay, Prompt, PromptKind},
};
use crate::control::StreamFilter;

/// The possible completions of the last word in the open prompt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    /// The text before the last word; completion does not change it.
    pub(crate) prefix: String,
    /// The words that begin with the typed part of the last one.
    pub(crate) candidates: Vec<&'static str>,
}

impl Completion {
    /// Returns the possible completions of the last word in the open prompt; none while no prompt is open.
    pub(crate) fn of(model: &Model) -> Self {
        let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Self::default() };
        let text = prompt.line.text();
        let (prefix, word) = match text.rsplit_once(' ') {
            Some((before, word)) => (format!("{before} "), word),
            None => (String::new(), text),
        };
        let mut candidates = all_candidates(model, prompt);
        candidates.retain(|candidate| candidate.starts_with(word));
        Self { prefix, candidates }
    }

    /// Returns the text with the last word completed as far as all candidates agree; `None` without candidates.
    pub(crate) fn completed(&self) -> Option<String> {
        let mut candidates = self.candidates.iter();
        let first = candidates.next()?;
        let common = candidates.fold(*first, |common, name| {
            let same = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
            &common[..same]
        });
        Some(format!("{}{common}", self.prefix))
    }
}

/// Returns every word that can stand at the end of the prompt.
fn all_candidates(model: &Model, prompt: &Prompt) -> Vec<&'static str> {
    match prompt.kind {
        PromptKind::Command => match prompt.line.text().split_once(' ') {
            Some((command, _)) => command_line::argument_words(command).to_vec(),
            None => command_line::names(&model.keymap, model.command_context()),
        },
        PromptKind::Limit(_) => command_line::argument_words("limit").to_vec(),
        PromptKind::Policy(_) => command_line::argument_words("policy").to_vec(),
        PromptKind::Filter { .. } => StreamFilter::fields().chain(StreamFilter::FIGURES).collect(),
        PromptKind::LogFilter { .. } | PromptKind::Help | PromptKind::Weight(_) => Vec::new(),
    }
}
