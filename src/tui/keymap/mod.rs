//! Key bindings. One table ([`BINDINGS`]) is the source of dispatch, footer, help and command names, so that none of
//! them can promise a key that another does not know. Translating a key performs nothing; [`update`](super::update)
//! does.

mod context;
mod key_names;
mod table;

use std::borrow::Cow;

use crokey::KeyCombination;
use unicode_width::UnicodeWidthStr;

use super::{
    intent::Intent,
    labels::{Role, Subject},
    terminal::{Key, KeyCode},
};
use crate::{control::Capabilities, ids::near_miss_hint};

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
    Unblock,
    Ban,
    /// Ending or suspending the program, and with it all streams. The server does not grant it: it is only withheld
    /// from a read-only operator.
    Shutdown,
    /// Playing a recording.
    Playback,
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
    /// The bindings that were removed: a notice tells the operator who presses their keys why they have no effect.
    removed: Vec<KeymapEntry>,
    /// Whether bindings were removed because the operator may only read.
    is_read_only: bool,
    /// Whether the cockpit shows a proxy, which executes fewer commands.
    is_of_proxy: bool,
    /// What the cockpit is to the server. It says why the bindings of a recording were removed.
    role: Role,
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
        Self {
            entries: entries.collect(),
            removed: Vec::new(),
            is_read_only: false,
            is_of_proxy: false,
            role: Role::Server,
        }
    }
}

impl Keymap {
    /// Removes the bindings that require a capability which the server does not have.
    pub(crate) fn restricted_to(self, capabilities: Capabilities) -> Self {
        self.retain(|requires| match requires {
            RequiredCapability::None | RequiredCapability::Shutdown | RequiredCapability::Playback => true,
            RequiredCapability::Kill => capabilities.kill,
            RequiredCapability::Kick => capabilities.kick,
            RequiredCapability::Pause => capabilities.pause,
            RequiredCapability::Priority => capabilities.priority,
            RequiredCapability::Limit => capabilities.limit,
            RequiredCapability::Drain => capabilities.drain,
            RequiredCapability::Weight => capabilities.weight,
            RequiredCapability::Policy => capabilities.policy,
            RequiredCapability::Unblock => capabilities.unblock,
            RequiredCapability::Ban => capabilities.ban,
        })
    }

    /// Removes the bindings that play a recording, unless the cockpit shows one.
    pub(crate) fn for_role(self, role: Role) -> Self {
        let kept = self.retain(|requires| requires != RequiredCapability::Playback || role == Role::Replay);
        Self { role, ..kept }
    }

    /// Explains removed bindings as those of a cockpit of a proxy or a server.
    pub(crate) fn for_subject(self, subject: Subject) -> Self {
        Self { is_of_proxy: subject == Subject::Proxy, ..self }
    }

    /// Removes every binding that changes the server or ends it. Quitting ends the cockpit alone where the server is
    /// another process.
    pub(crate) fn read_only(self, role: Role) -> Self {
        let kept = self.retain(|requires| match requires {
            RequiredCapability::None | RequiredCapability::Playback => true,
            RequiredCapability::Shutdown => role != Role::Server,
            _ => false,
        });
        Self { is_read_only: true, ..kept }
    }

    /// Keeps the bindings whose required capability `has` accepts, and remembers the others as removed.
    fn retain(mut self, has: impl Fn(RequiredCapability) -> bool) -> Self {
        let (kept, removed) = self.entries.into_iter().partition(|entry| has(entry.binding.requires));
        self.entries = kept;
        self.removed.extend::<Vec<_>>(removed);
        self
    }

    /// Returns whether the operator may end the program.
    pub(crate) fn may_shut_down(&self) -> bool {
        self.removed.iter().all(|entry| entry.binding.requires != RequiredCapability::Shutdown)
    }

    /// Returns why `key` has no effect in `context`, for the operator who pressed it: it was removed, works on other
    /// screens, or has no meaning anywhere.
    pub(crate) fn why_unbound(&self, context: InputContext, key: Key) -> String {
        let name = match typed_char(key) {
            Some(c) if c != ' ' => c.to_string(),
            _ => KeyCombination::one_key(key.code, key.modifiers).to_string(),
        };
        let is_bound = |entry: &&KeymapEntry| entry.keys.contains(&key);
        let here = |entry: &&KeymapEntry| context.chain().contains(&entry.binding.context);
        let why_removed = |entry: &KeymapEntry| {
            self.why_removed(entry.binding, &format!("{} ({name})", entry.binding.name))
        };
        if let Some(entry) = self.removed.iter().find(|entry| is_bound(entry) && here(entry)) {
            return why_removed(entry);
        }
        let screens = self.entries.iter().filter(is_bound).filter_map(|entry| {
            Some(format!("{} ({})", entry.binding.context.screen()?, entry.binding.name))
        });
        match screens.collect::<Vec<_>>().join(", ").as_str() {
            // Removed from every screen that had it.
            "" => match self.removed.iter().find(is_bound) {
                Some(entry) => why_removed(entry),
                None => format!("{name} has no meaning; ? lists all keys"),
            },
            screens => format!("{name} has no effect here; it works on: {screens}"),
        }
    }

    /// Returns the screens on which the command with this name can be run; `None` if there are none.
    pub(crate) fn screens_with_command(&self, name: &str) -> Option<String> {
        let entries = self.entries.iter().filter(|entry| entry.binding.name == name);
        let screens: Vec<&str> = entries.filter_map(|entry| entry.binding.context.screen()).collect();
        (!screens.is_empty()).then(|| screens.join(", "))
    }

    /// Returns why a binding is removed, which the operator has asked for as `asked`.
    fn why_removed(&self, binding: &Binding, asked: &str) -> String {
        let why = match binding.requires {
            RequiredCapability::Playback => "it is for a replay",
            _ if self.is_read_only => "this cockpit is read-only",
            _ if self.is_of_proxy => "a proxy cannot do it; attach to its server",
            _ if self.role == Role::Replay => "a recording cannot be changed",
            _ => "this server does not support it",
        };
        format!("{asked} is disabled: {why}")
    }

    /// Returns why the command with this name cannot be run, if its binding was removed.
    pub(crate) fn why_no_command(&self, name: &str) -> Option<String> {
        let removed = self.removed.iter().find(|entry| entry.binding.name == name)?;
        let is_kept = self.entries.iter().any(|entry| entry.binding.name == name);
        (!is_kept).then(|| self.why_removed(removed.binding, name))
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
            let hint = near_miss_hint(name, self.entries.iter().map(|e| e.binding.name));
            return Err(format!("unknown action «{name}»{hint}"));
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

    /// Returns the bindings that the footer shows in `width` cells, in the order of the table, each with its word.
    /// `word_of` returns the word of a binding; `None` for one that has no effect at present. Where not all fit, the
    /// main action, closing or quitting, and the help are kept longest.
    pub(crate) fn footer<'a>(
        &'a self,
        context: InputContext,
        width: usize,
        word_of: impl Fn(&'static Binding) -> Option<&'static str>,
    ) -> Vec<(&'a KeymapEntry, &'static str)> {
        let chain = context.chain();
        let is_overlay = matches!(
            context,
            InputContext::Dialog
                | InputContext::Prompt
                | InputContext::Help
                | InputContext::AddProxy
                | InputContext::Columns
        );
        let shown = |entry: &'a KeymapEntry| {
            let KeymapEntry { binding, keys, .. } = entry;
            let applies = chain.contains(&binding.context) && (!is_overlay || binding.context == context);
            // A nearer context may have taken all of its keys.
            let is_reached = |key: &Key| self.intent(context, *key) == Some(&binding.intent);
            let word = word_of(binding).filter(|word| !word.is_empty())?;
            (applies && keys.iter().any(is_reached)).then_some((entry, word))
        };
        let rank = |entry: &KeymapEntry| match entry.binding.name {
            "kill" | "press" | "yes" => 0,
            "close" | "quit" => 1,
            "help" | "add-proxy" => 2,
            "filter" | "log-filter" | "kick" | "kill-user" => 3,
            _ => 4,
        };
        let mut left = width;
        let mut kept: Vec<_> = self.entries.iter().filter_map(shown).enumerate().collect();
        kept.sort_by_key(|(_, (entry, _))| rank(entry));
        kept.retain(|(_, (entry, word))| {
            // The keys, a blank, the word, and two blanks.
            let own = entry.shown.width() + word.width() + 3;
            let rest = left.checked_sub(own);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        kept.sort_by_key(|(at, _)| *at);
        kept.into_iter().map(|(_, shown)| shown).collect()
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
