//! The lines that the operator typed into prompts, to be recalled with the arrow keys.

use std::collections::VecDeque;

use super::prompt::{Prompt, PromptKind};

/// How many lines are remembered of each kind of prompt.
const MAX_LINES: usize = 50;

/// The lines that were accepted in prompts, the newest first, by kind of prompt.
#[derive(Debug, Default)]
pub(crate) struct LineHistory([VecDeque<String>; 6]);

impl LineHistory {
    /// Returns the position in the history of the lines of this kind of prompt.
    fn index(kind: &PromptKind) -> usize {
        match kind {
            PromptKind::Filter { .. } => 0,
            PromptKind::LogFilter { .. } => 1,
            PromptKind::Help => 2,
            PromptKind::Command => 3,
            PromptKind::Limit(_) => 4,
            PromptKind::Weight(_) | PromptKind::Policy(_) => 5,
        }
    }

    /// Remembers a line as the newest one of its kind of prompt; an empty one is not remembered.
    pub(crate) fn push(&mut self, kind: &PromptKind, line: &str) {
        let lines = &mut self.0[Self::index(kind)];
        lines.retain(|known| known != line);
        if !line.is_empty() {
            lines.push_front(line.to_owned());
            lines.truncate(MAX_LINES);
        }
    }

    /// Returns the line before the one that the prompt has recalled (`older`) or the one after it, and its number,
    /// counted from 1 for the newest; an empty line and 0 behind the newest one. `None` if there is no such line, so
    /// that what was typed stays.
    pub(crate) fn recall(&self, prompt: &Prompt, older: bool) -> Option<(usize, String)> {
        let number = if older { prompt.recalled + 1 } else { prompt.recalled.saturating_sub(1) };
        let lines = &self.0[Self::index(&prompt.kind)];
        match number.checked_sub(1) {
            None => (prompt.recalled > 0).then(|| (0, String::new())),
            Some(at) => lines.get(at).map(|line| (number, line.clone())),
        }
    }
}
