//! The one table of bindings: dispatch, footer, help and the command line are all made from it, so that none can
//! promise a key that another does not know.

mod table;

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use super::terminal::{Key, KeyCode};
use crate::control::Capabilities;

pub(crate) use table::BINDINGS;

/// What has the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputContext {
    /// The table of streams.
    Streams,
    /// One stream, looked at closely.
    Detail,
    Proxies,
    Sessions,
    Logs,
    /// Whichever of the screens with a table is shown.
    List,
    /// Whichever screen is shown.
    Screens,
    /// A question with buttons.
    Dialog,
    /// A line that is being typed.
    Prompt,
    AddProxy,
    /// The list of columns.
    Columns,
    Help,
    /// Wherever nothing nearer takes the key.
    Anywhere,
}

impl InputContext {
    /// Where a key is looked for, the nearest first. A dialog keeps what is not its own, except the ways out: its
    /// keys must not act on what is behind it.
    fn chain(self) -> &'static [Self] {
        match self {
            Self::Streams => &[Self::Streams, Self::List, Self::Screens, Self::Anywhere],
            Self::Detail => &[Self::Detail, Self::Screens, Self::Anywhere],
            Self::Proxies => &[Self::Proxies, Self::List, Self::Screens, Self::Anywhere],
            Self::Sessions => &[Self::Sessions, Self::List, Self::Screens, Self::Anywhere],
            Self::Logs => &[Self::Logs, Self::Screens, Self::Anywhere],
            Self::Dialog => &[Self::Dialog, Self::Anywhere],
            Self::Prompt => &[Self::Prompt, Self::Anywhere],
            Self::AddProxy => &[Self::AddProxy, Self::Anywhere],
            Self::Columns => &[Self::Columns, Self::Anywhere],
            Self::Help => &[Self::Help, Self::Anywhere],
            Self::List | Self::Screens | Self::Anywhere => &[Self::Anywhere],
        }
    }
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Down,
    Up,
    PageDown,
    PageUp,
    HalfPageDown,
    HalfPageUp,
    First,
    Last,
    /// The stream's detail, the proxy's channels.
    Open,
    Kill,
    /// All open streams that the filter shows.
    KillShown,
    KillUser,
    Kick,
    /// Holds a stream, or lets it go on: whichever it is not.
    TogglePause,
    Pause,
    Resume,
    Raise,
    Lower,
    /// A priority by its name.
    Priority,
    /// How fast something may go.
    Limit,
    /// Gives a proxy no new streams, or gives it some again: whichever it is not.
    ToggleDrain,
    Drain,
    Undrain,
    Weight,
    /// How a service gives its streams to its proxies.
    Policy,
    /// The bars of the proxies by streams, or by bytes.
    LoadBy,
    Mark,
    Unmark,
    MarkShown,
    Filter,
    LogFilter,
    SortNext,
    SortPrevious,
    Reverse,
    Sort,
    /// Which columns the table has.
    Columns,
    /// As it was at first.
    Reset,
    ToggleEnded,
    LogOf,
    StreamsOf,
    ExportCsv,
    ExportJson,
    More,
    Less,
    ShowStreams,
    ShowProxies,
    ShowSessions,
    ShowLogs,
    NextScreen,
    PreviousScreen,
    Freeze,
    ShorterWindow,
    LongerWindow,
    Units,
    Copy,
    Screenshot,
    AddProxy,
    CommandLine,
    Theme,
    Mouse,
    /// Takes away the filter, then the marks.
    Back,
    Help,
    Quit,
    /// `^C`: drain first, then at once.
    Interrupt,
    Redraw,
    Suspend,
    /// The next button.
    Next,
    /// The button before.
    Previous,
    /// Presses the focused button, takes the typed line.
    Press,
    /// Presses the button that does what the dialog asks about.
    Yes,
    /// Presses the button that drains, where there is one.
    DrainFirst,
    /// Leaves what lies on top, and nothing has happened.
    Close,
    Complete,
    Backspace,
    Delete,
    DeleteWord,
    DeleteAll,
    Left,
    Right,
}

impl Action {
    /// Its name on the command line and in the settings: `kill-user`.
    pub(crate) fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

/// What an action takes that not every server has, or not every operator may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Kill,
    Kick,
    Pause,
    Priority,
    Limit,
    Drain,
    Weight,
    Policy,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) context: InputContext,
    pub(crate) keys: &'static [Key],
    /// How the keys are written.
    pub(crate) shown: &'static str,
    pub(crate) action: Action,
    /// One word for the footer; with none it is only in the help.
    pub(crate) short: &'static str,
    /// A line for the help.
    pub(crate) help: &'static str,
    pub(crate) needs: Needs,
}

/// The table as it stands for one operator: what the server can do, and other keys where the settings name some.
#[derive(Debug, Clone)]
pub(crate) struct Keymap {
    entries: Vec<KeymapEntry>,
}

/// A binding with the keys that it really has.
#[derive(Debug, Clone)]
pub(crate) struct KeymapEntry {
    pub(crate) binding: &'static Binding,
    keys: Cow<'static, [Key]>,
    pub(crate) shown: Cow<'static, str>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::new(Capabilities::all())
    }
}

impl Keymap {
    /// The table without what cannot be done.
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        let possible = |binding: &&Binding| match binding.needs {
            Needs::Nothing => true,
            Needs::Kill => capabilities.kill,
            Needs::Kick => capabilities.kick,
            Needs::Pause => capabilities.pause,
            Needs::Priority => capabilities.priority,
            Needs::Limit => capabilities.limit,
            Needs::Drain => capabilities.drain,
            Needs::Weight => capabilities.weight,
            Needs::Policy => capabilities.policy,
        };
        let entries = BINDINGS.iter().filter(possible).map(|binding| KeymapEntry {
            binding,
            keys: Cow::Borrowed(binding.keys),
            shown: Cow::Borrowed(binding.shown),
        });
        Self { entries: entries.collect() }
    }

    /// What `key` does while `context` has the keyboard.
    pub(crate) fn action(&self, context: InputContext, key: Key) -> Option<Action> {
        context.chain().iter().find_map(|wanted| {
            let found = self.entries.iter().find(|e| e.binding.context == *wanted && e.keys.contains(&key));
            // Nothing may lie over a dialog or a line, and «?» is a character there.
            let blocked = |action: &Action| {
                matches!(context, InputContext::Dialog | InputContext::Prompt) && *action == Action::Help
            };
            found.map(|entry| entry.binding.action).filter(|action| !blocked(action))
        })
    }

    /// All of a context's own bindings that have keys.
    pub(crate) fn of(&self, context: InputContext) -> impl Iterator<Item = &KeymapEntry> {
        self.entries.iter().filter(move |entry| entry.binding.context == context)
    }

    /// The actions that can be named while `context` has the keyboard, with their help.
    pub(crate) fn commands(&self, context: InputContext) -> Vec<(String, &'static Binding)> {
        let chain = context.chain();
        let here = self.entries.iter().filter(|entry| chain.contains(&entry.binding.context));
        let mut commands: Vec<_> = here.map(|e| (e.binding.action.name(), e.binding)).collect();
        commands.sort_by(|a, b| a.0.cmp(&b.0));
        commands.dedup_by(|a, b| a.0 == b.0);
        commands
    }

    /// Gives an action other keys.
    ///
    /// # Errors
    /// There is no such action, or the key means something else in the same place.
    pub(crate) fn rebind(&mut self, name: &str, keys: &[Key], shown: &str) -> Result<(), String> {
        let named = |entry: &KeymapEntry| entry.binding.action.name() == name;
        if !self.entries.iter().any(named) {
            return Err(
                match crate::tui::suggest::near_miss(
                    name,
                    self.entries.iter().map(|e| e.binding.action.name()),
                ) {
                    Some(near) => format!("there is no action «{name}»; did you mean «{near}»?"),
                    None => format!("there is no action «{name}»"),
                },
            );
        }
        let places: Vec<InputContext> =
            self.entries.iter().filter(|e| named(e)).map(|e| e.binding.context).collect();
        let clash = self.entries.iter().find(|entry| {
            let context = entry.binding.context;
            let near = places.iter().any(|p| *p == context || p.chain().contains(&context));
            !named(entry) && near && entry.keys.iter().any(|key| keys.contains(key))
        });
        if let Some(clash) = clash {
            return Err(format!("{shown} is the key of «{}» already", clash.binding.action.name()));
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.binding.action.name() == name) {
            entry.keys = Cow::Owned(keys.to_vec());
            entry.shown = Cow::Owned(shown.to_owned());
        }
        Ok(())
    }

    /// The bindings that the footer shows in `width` cells while `context` has the keyboard, in the order of the
    /// table, without those that have no effect now. Where not all fit, the way to act, the help and the way out stay longest.
    pub(crate) fn footer(
        &self,
        context: InputContext,
        width: usize,
        idle: impl Fn(Action) -> bool,
    ) -> Vec<&KeymapEntry> {
        let chain = context.chain();
        let over = matches!(
            context,
            InputContext::Dialog
                | InputContext::Prompt
                | InputContext::Help
                | InputContext::AddProxy
                | InputContext::Columns
        );
        let shown = |entry: &&KeymapEntry| {
            let here = chain.contains(&entry.binding.context) && (!over || entry.binding.context == context);
            // Where something nearer has all of its keys, they do something else.
            let reached = |key: &Key| self.action(context, *key) == Some(entry.binding.action);
            here && !idle(entry.binding.action)
                && !entry.binding.short.is_empty()
                && entry.keys.iter().any(reached)
        };
        let rank = |entry: &KeymapEntry| match entry.binding.action {
            Action::Kill | Action::Press | Action::Yes => 0,
            Action::Close | Action::Quit => 1,
            Action::Help => 2,
            Action::Filter | Action::LogFilter | Action::Kick | Action::KillUser => 3,
            _ => 4,
        };
        let mut left = width;
        let mut kept: Vec<(usize, &KeymapEntry)> = self.entries.iter().filter(shown).enumerate().collect();
        kept.sort_by_key(|(_, entry)| rank(entry));
        kept.retain(|(_, entry)| {
            // The keys, a blank, the word, and what sets it apart.
            let own = entry.shown.width() + entry.binding.short.width() + 3;
            let rest = left.checked_sub(own);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        kept.sort_by_key(|(at, _)| *at);
        kept.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// The character that a key types into a line.
pub(crate) fn typed(key: Key) -> Option<char> {
    match key.code {
        KeyCode::Char(c) if key.modifiers.is_empty() => Some(c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [InputContext; 13] = [
        InputContext::Streams,
        InputContext::Detail,
        InputContext::Proxies,
        InputContext::Sessions,
        InputContext::Logs,
        InputContext::List,
        InputContext::Screens,
        InputContext::Dialog,
        InputContext::Prompt,
        InputContext::AddProxy,
        InputContext::Columns,
        InputContext::Help,
        InputContext::Anywhere,
    ];

    #[test]
    fn no_key_means_two_things_at_once() {
        for context in ALL {
            let mut keys: Vec<Key> = BINDINGS
                .iter()
                .filter(|binding| binding.context == context)
                .flat_map(|binding| binding.keys.iter().copied())
                .collect();
            let all = keys.len();
            keys.sort_by_key(|key| format!("{key:?}"));
            keys.dedup();
            assert_eq!(keys.len(), all, "{context:?}");
        }
    }

    /// A key that is written otherwise than terminals send it is a dead one.
    #[test]
    fn every_key_of_the_table_is_one_that_a_terminal_sends() {
        let mut sent: Vec<Vec<u8>> = (1..=0x7F).map(|byte| vec![byte]).collect();
        let finals = ["A", "B", "C", "D", "F", "H", "Z", "3~", "5~", "6~", "20~"];
        sent.extend(finals.iter().map(|end| format!("\x1b[{end}").into_bytes()));
        sent.push(b"\x1bOP".to_vec());
        let mut keys = Vec::new();
        for bytes in sent {
            let mut parser = crate::tui::terminal::InputParser::default();
            parser.feed(&bytes, &mut keys);
            parser.flush(&mut keys);
        }
        for binding in BINDINGS {
            for key in binding.keys {
                assert!(keys.contains(key), "{:?} {}: {key:?}", binding.context, binding.shown);
            }
        }
    }

    #[test]
    fn the_ways_to_act_and_out_stay_longest() {
        let keymap = Keymap::default();
        let words = |width| {
            keymap
                .footer(InputContext::Streams, width, |_| false)
                .iter()
                .map(|e| e.binding.short)
                .collect::<Vec<_>>()
        };
        for word in ["kill", "mark", "filter", "sort", "help", "quit"] {
            assert!(words(200).contains(&word), "{word}");
        }
        assert_eq!(words(26), ["kill", "help", "quit"]);
        assert_eq!(words(16), ["kill", "quit"]);
        assert_eq!(words(3), [""; 0]);
    }

    #[test]
    fn the_footer_names_no_key_that_does_something_else() {
        let keymap = Keymap::default();
        for context in ALL {
            for entry in keymap.footer(context, 500, |_| false) {
                let first = entry.keys.first().and_then(|key| keymap.action(context, *key));
                assert_eq!(first, Some(entry.binding.action), "{context:?} {}", entry.shown);
            }
        }
        let words: Vec<_> =
            keymap.footer(InputContext::Detail, 500, |_| false).iter().map(|e| e.binding.short).collect();
        assert!(words.contains(&"back") && !words.contains(&"quit"), "q goes back there: {words:?}");
    }

    #[test]
    fn nothing_destroys_by_the_key_that_chooses() {
        let action = |context, key| Keymap::default().action(context, key);
        assert_eq!(action(InputContext::Dialog, Key::char('x')), None);
        assert_eq!(action(InputContext::Dialog, Key::char('?')), None);
        assert_eq!(action(InputContext::Dialog, Key::ctrl('c')), Some(Action::Interrupt));
        assert_eq!(action(InputContext::Help, Key::char('x')), None);
    }

    #[test]
    fn who_may_only_look_has_no_key_that_acts() {
        let keymap = Keymap::new(Capabilities::none());
        for context in ALL {
            for entry in keymap.of(context) {
                assert_eq!(entry.binding.needs, Needs::Nothing);
                let acts = [
                    Action::Kill,
                    Action::KillShown,
                    Action::KillUser,
                    Action::Kick,
                    Action::TogglePause,
                    Action::Pause,
                    Action::Resume,
                    Action::Raise,
                    Action::Lower,
                    Action::Priority,
                    Action::Limit,
                    Action::ToggleDrain,
                    Action::Drain,
                    Action::Undrain,
                    Action::Weight,
                    Action::Policy,
                ];
                assert!(!acts.contains(&entry.binding.action));
            }
        }
        for key in ['x', 'p', '+', '-'] {
            assert_eq!(keymap.action(InputContext::Streams, Key::char(key)), None);
        }
    }

    #[test]
    fn keys_can_be_others() {
        let mut keymap = Keymap::default();
        assert_eq!(
            keymap.rebind("kil", &[Key::char('d')], "d").unwrap_err(),
            "there is no action «kil»; did you mean «kill»?"
        );
        assert_eq!(
            keymap.rebind("kill", &[Key::char('q')], "q").unwrap_err(),
            "q is the key of «close» already"
        );
        keymap.rebind("kill", &[Key::ctrl('k')], "^k").unwrap();
        assert_eq!(keymap.action(InputContext::Streams, Key::ctrl('k')), Some(Action::Kill));
        assert_eq!(keymap.action(InputContext::Streams, Key::char('x')), None);
        assert!(keymap.footer(InputContext::Streams, 200, |_| false).iter().any(|entry| entry.shown == "^k"));
    }
}
