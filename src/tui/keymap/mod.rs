//! Key bindings. One table ([`BINDINGS`]) is the source of dispatch, footer, help and command names, so that none of them
//! can promise a key that another does not know. Translating a key performs nothing; [`update`](super::update) does.

mod context;
mod key_names;
mod table;

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use super::{
    intent::Intent,
    suggest::near_miss,
    terminal::{Key, KeyCode},
};
use crate::control::Capabilities;

pub(crate) use context::InputContext;
pub(crate) use key_names::parse_key;
pub(crate) use table::BINDINGS;

/// The capability that the server, and the operator's rights, must include for a binding to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredCapability {
    None,
    Kill,
    Kick,
    Pause,
    Priority,
    Limit,
    Drain,
    Weight,
    Policy,
}

/// One row of the table of key bindings.
#[derive(Debug)]
pub(crate) struct Binding {
    /// The screen or overlay in which the binding applies.
    pub(crate) context: InputContext,
    /// The default keys of the binding; empty if it can only be run on the command line.
    pub(crate) keys: &'static [Key],
    /// The keys as footer and help write them.
    pub(crate) shown: &'static str,
    /// The name on the command line and in the settings, such as `kill-user`.
    pub(crate) name: &'static str,
    /// The intent that the keys and the name stand for.
    pub(crate) intent: Intent,
    /// One word for the footer; empty if only the help lists the binding.
    pub(crate) short: &'static str,
    /// The explanation in the help, one line.
    pub(crate) help: &'static str,
    /// The capability without which the binding does not exist.
    pub(crate) requires: RequiredCapability,
}

/// The bindings that one operator has: without those that the server does not support or that he may not use, and
/// with the keys of his settings.
#[derive(Debug, Clone)]
pub(crate) struct Keymap {
    /// The bindings in the order of the table, which is that of the footer.
    entries: Vec<KeymapEntry>,
}

/// A binding with the keys that are in effect for it.
#[derive(Debug, Clone)]
pub(crate) struct KeymapEntry {
    /// The row of the table of bindings: context, intent, name and help.
    pub(crate) binding: &'static Binding,
    /// The keys in effect: those of the operator's settings, else the default ones.
    keys: Cow<'static, [Key]>,
    /// The keys in effect, as footer and help write them.
    pub(crate) shown: Cow<'static, str>,
}

impl Default for Keymap {
    /// All bindings with their default keys.
    fn default() -> Self {
        let entries = BINDINGS.iter().map(|binding| KeymapEntry {
            binding,
            keys: Cow::Borrowed(binding.keys),
            shown: Cow::Borrowed(binding.shown),
        });
        Self { entries: entries.collect() }
    }
}

impl Keymap {
    /// Removes the bindings that require a capability which the server, or the operator, does not have.
    pub(crate) fn restricted_to(mut self, capabilities: Capabilities) -> Self {
        self.entries.retain(|entry| match entry.binding.requires {
            RequiredCapability::None => true,
            RequiredCapability::Kill => capabilities.kill,
            RequiredCapability::Kick => capabilities.kick,
            RequiredCapability::Pause => capabilities.pause,
            RequiredCapability::Priority => capabilities.priority,
            RequiredCapability::Limit => capabilities.limit,
            RequiredCapability::Drain => capabilities.drain,
            RequiredCapability::Weight => capabilities.weight,
            RequiredCapability::Policy => capabilities.policy,
        });
        self
    }

    /// Returns the intent of `key` in `context`: that of the nearest context which binds the key.
    pub(crate) fn intent(&self, context: InputContext, key: Key) -> Option<&'static Intent> {
        context.chain().iter().find_map(|wanted| {
            let found = self.entries.iter().find(|e| e.binding.context == *wanted && e.keys.contains(&key));
            // The help cannot cover a dialog or a prompt; in a prompt `?` is a character.
            let is_blocked = |intent: &&Intent| {
                matches!(context, InputContext::Dialog | InputContext::Prompt) && **intent == Intent::OpenHelp
            };
            found.map(|entry| &entry.binding.intent).filter(|intent| !is_blocked(intent))
        })
    }

    /// Returns the bindings of exactly this context, including those without keys.
    pub(crate) fn of(&self, context: InputContext) -> impl Iterator<Item = &KeymapEntry> {
        self.entries.iter().filter(move |entry| entry.binding.context == context)
    }

    /// Returns the bindings that can be run by name on the command line in `context`, sorted by name, each name once.
    pub(crate) fn commands(&self, context: InputContext) -> Vec<&'static Binding> {
        let chain = context.chain();
        let here = self.entries.iter().filter(|entry| chain.contains(&entry.binding.context));
        let mut commands: Vec<&'static Binding> = here.map(|entry| entry.binding).collect();
        commands.sort_by_key(|binding| binding.name);
        commands.dedup_by_key(|binding| binding.name);
        commands
    }

    /// Replaces the keys of all bindings with this name.
    ///
    /// # Errors
    /// The name is unknown, or a key has another meaning in the same context.
    pub(crate) fn rebind(&mut self, name: &str, keys: &[Key], shown: &str) -> Result<(), String> {
        let is_named = |entry: &KeymapEntry| entry.binding.name == name;
        if !self.entries.iter().any(is_named) {
            return Err(match near_miss(name, self.entries.iter().map(|e| e.binding.name.to_owned())) {
                Some(near) => format!("unknown action «{name}»; did you mean «{near}»?"),
                None => format!("unknown action «{name}»"),
            });
        }
        let contexts: Vec<InputContext> =
            self.entries.iter().filter(|e| is_named(e)).map(|e| e.binding.context).collect();
        let clash = self.entries.iter().find(|entry| {
            let context = entry.binding.context;
            let overlaps = contexts.iter().any(|own| *own == context || own.chain().contains(&context));
            !is_named(entry) && overlaps && entry.keys.iter().any(|key| keys.contains(key))
        });
        if let Some(clash) = clash {
            return Err(format!("{shown} is already bound to «{}»", clash.binding.name));
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.binding.name == name) {
            entry.keys = Cow::Owned(keys.to_vec());
            entry.shown = Cow::Owned(shown.to_owned());
        }
        Ok(())
    }

    /// Returns the bindings that the footer shows in `width` cells, in the order of the table, without those that
    /// have no effect at present (`is_idle`). Where not all fit, the main action, closing or quitting, and the help
    /// are kept longest.
    pub(crate) fn footer(
        &self,
        context: InputContext,
        width: usize,
        is_idle: impl Fn(&Intent) -> bool,
    ) -> Vec<&KeymapEntry> {
        let chain = context.chain();
        let is_overlay = matches!(
            context,
            InputContext::Dialog
                | InputContext::Prompt
                | InputContext::Help
                | InputContext::AddProxy
                | InputContext::Columns
        );
        let is_shown = |entry: &&KeymapEntry| {
            let binding = entry.binding;
            let applies = chain.contains(&binding.context) && (!is_overlay || binding.context == context);
            // A nearer context may have taken all of its keys.
            let is_reached = |key: &Key| self.intent(context, *key) == Some(&binding.intent);
            applies
                && !is_idle(&binding.intent)
                && !binding.short.is_empty()
                && entry.keys.iter().any(is_reached)
        };
        let rank = |entry: &KeymapEntry| match entry.binding.name {
            "kill" | "press" | "yes" => 0,
            "close" | "quit" => 1,
            "help" => 2,
            "filter" | "log-filter" | "kick" | "kill-user" => 3,
            _ => 4,
        };
        let mut left = width;
        let mut kept: Vec<(usize, &KeymapEntry)> = self.entries.iter().filter(is_shown).enumerate().collect();
        kept.sort_by_key(|(_, entry)| rank(entry));
        kept.retain(|(_, entry)| {
            // The keys, a blank, the word, and two blanks.
            let own = entry.shown.width() + entry.binding.short.width() + 3;
            let rest = left.checked_sub(own);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        kept.sort_by_key(|(at, _)| *at);
        kept.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Returns the character that a key inserts into a line of text; `None` for a key with modifiers and for one without
/// a character.
pub(crate) fn typed_char(key: Key) -> Option<char> {
    match key.code {
        KeyCode::Char(c) if key.modifiers.is_empty() => Some(c),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
