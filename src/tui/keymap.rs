//! The one table of bindings: dispatch, footer and help are all made from it, so that none can promise a key that
//! another does not know.

use unicode_width::UnicodeWidthStr;

use super::terminal::{Key, KeyCode};

/// What has the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// The table of streams.
    Streams,
    /// A question with buttons.
    Dialog,
    /// The help.
    Help,
    /// Wherever nothing nearer takes the key.
    Anywhere,
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
    Kill,
    KillUser,
    Kick,
    Mark,
    Unmark,
    SortNext,
    SortPrevious,
    Reverse,
    ToggleEnded,
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
    /// Presses the focused button.
    Press,
    /// Presses the button that does what the dialog asks about.
    Yes,
    /// Presses the button that drains, where there is one.
    Drain,
    /// Leaves the dialog or the help, and nothing has happened.
    Close,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) context: Context,
    pub(crate) keys: &'static [Key],
    /// How the keys are written.
    pub(crate) shown: &'static str,
    pub(crate) action: Action,
    /// One word for the footer; with none it is only in the help.
    pub(crate) short: &'static str,
    /// A line for the help.
    pub(crate) help: &'static str,
}

impl Binding {
    /// How many cells it takes in the footer: the keys, a blank, the word, and what sets it apart.
    fn width(&self) -> usize {
        self.shown.width() + self.short.width() + 3
    }
}

const fn code(code: KeyCode) -> Key {
    Key::plain(code)
}

const fn char(c: char) -> Key {
    Key::char(c)
}

macro_rules! bindings {
    ($($context:ident: [$($key:expr),+] $shown:literal $action:ident $short:literal $help:literal;)+) => {
        &[$(Binding {
            context: Context::$context,
            keys: &[$($key),+],
            shown: $shown,
            action: Action::$action,
            short: $short,
            help: $help,
        }),+]
    };
}

use KeyCode::{BackTab, Delete, Down, End, Enter, Esc, F, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// All bindings. The footer shows them in this order, as far as it is wide enough.
pub(crate) static BINDINGS: &[Binding] = bindings![
    Streams: [char('x'), code(Delete), code(F(9))] "x" Kill "kill" "kill the selected stream or the marked ones, after asking";
    Streams: [char('K')] "K" KillUser "" "kill all streams of the selected stream's user, after asking";
    Streams: [char('X')] "X" Kick "" "kick the proxy that has the selected stream, after asking; it may come back";
    Streams: [char('m')] "m" Mark "mark" "mark the stream, or take its mark away; x kills all that are marked";
    Streams: [char('M')] "M" Unmark "" "unmark all";
    Streams: [char('s')] "s" SortNext "sort" "sort by the next column";
    Streams: [char('S')] "S" SortPrevious "" "sort by the column before";
    Streams: [char('r')] "r" Reverse "reverse" "reverse the order";
    Streams: [char('t')] "t" ToggleEnded "ended" "show or hide streams that have ended";
    Anywhere: [char('?'), code(F(1))] "?" Help "help" "this help";
    Streams: [char('q')] "q" Quit "quit" "quit; asks while streams are open";
    Streams: [char('j'), code(Down)] "j ↓" Down "" "next stream";
    Streams: [char('k'), code(Up)] "k ↑" Up "" "stream before";
    Streams: [code(PageDown), Key::ctrl('f')] "PgDn ^f" PageDown "" "a page down";
    Streams: [code(PageUp), Key::ctrl('b')] "PgUp ^b" PageUp "" "a page up";
    Streams: [Key::ctrl('d')] "^d" HalfPageDown "" "half a page down";
    Streams: [Key::ctrl('u')] "^u" HalfPageUp "" "half a page up";
    Streams: [char('g'), code(Home)] "g Home" First "" "first stream";
    Streams: [char('G'), code(End)] "G End" Last "" "last stream";

    Dialog: [code(Enter), char(' ')] "⏎" Press "choose" "press the button in focus; at first that is Cancel";
    Dialog: [code(Tab), code(Right), char('l')] "⇥ →" Next "next" "next button";
    Dialog: [code(BackTab), code(Left), char('h')] "⇧⇥ ←" Previous "" "button before";
    Dialog: [char('y')] "y" Yes "yes" "do what the dialog asks about";
    Dialog: [char('d')] "d" Drain "" "let open streams finish, where the dialog offers it";
    Dialog: [code(Esc), char('n'), char('q')] "Esc n" Close "cancel" "leave; nothing happens";

    Help: [char('j'), code(Down)] "j ↓" Down "down" "scroll down";
    Help: [char('k'), code(Up)] "k ↑" Up "up" "scroll up";
    Help: [code(PageDown), char(' '), Key::ctrl('f')] "PgDn" PageDown "" "a page down";
    Help: [code(PageUp), Key::ctrl('b')] "PgUp" PageUp "" "a page up";
    Help: [char('g'), code(Home)] "g" First "" "to the top";
    Help: [char('G'), code(End)] "G" Last "" "to the end";
    Help: [code(Esc), char('q'), char('?'), code(F(1)), code(Enter)] "Esc" Close "close" "close the help";

    Anywhere: [Key::ctrl('c')] "^C" Interrupt "" "let open streams finish, then quit; twice: quit at once";
    Anywhere: [Key::ctrl('l')] "^L" Redraw "" "draw the screen anew";
    Anywhere: [Key::ctrl('z')] "^Z" Suspend "" "back to the shell; the tunnel stops too, until fg";
];

/// What `key` does while `context` has the keyboard.
pub(crate) fn action(context: Context, key: Key) -> Option<Action> {
    let find = |wanted: Context| {
        BINDINGS
            .iter()
            .find(|binding| binding.context == wanted && binding.keys.contains(&key))
            .map(|binding| binding.action)
    };
    // A dialog keeps what is not its own, except the ways out: its keys must not act on what is behind it.
    let anywhere = find(Context::Anywhere)
        .filter(|action| context != Context::Dialog || !matches!(action, Action::Help));
    find(context).or(anywhere)
}

/// The bindings that the footer shows in `width` cells while `context` has the keyboard, in the order of the table.
/// Where not all fit, the way to act, the help and the way out stay longest.
pub(crate) fn footer(context: Context, width: usize) -> Vec<&'static Binding> {
    let shown = |binding: &&Binding| {
        let here = binding.context == context
            || (binding.context == Context::Anywhere && context == Context::Streams);
        here && !binding.short.is_empty()
    };
    let rank = |binding: &Binding| match binding.action {
        Action::Kill | Action::Press | Action::Yes => 0,
        Action::Close | Action::Quit => 1,
        Action::Help => 2,
        _ => 3,
    };
    let mut left = width;
    let mut kept: Vec<(usize, &Binding)> = BINDINGS.iter().filter(shown).enumerate().collect();
    kept.sort_by_key(|(_, binding)| rank(binding));
    kept.retain(|(_, binding)| {
        let rest = left.checked_sub(binding.width());
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().map(|(_, binding)| binding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_at_once() {
        for context in [Context::Streams, Context::Dialog, Context::Help, Context::Anywhere] {
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

    #[test]
    fn the_ways_to_act_and_out_stay_longest() {
        let words = |width| footer(Context::Streams, width).iter().map(|b| b.short).collect::<Vec<_>>();
        assert_eq!(words(200), ["kill", "mark", "sort", "reverse", "ended", "help", "quit"]);
        assert_eq!(words(26), ["kill", "help", "quit"]);
        assert_eq!(words(16), ["kill", "quit"]);
        assert_eq!(words(3), [""; 0]);
    }

    #[test]
    fn nothing_destroys_by_the_key_that_chooses() {
        assert_eq!(action(Context::Dialog, Key::char('x')), None);
        assert_eq!(action(Context::Dialog, Key::ctrl('c')), Some(Action::Interrupt));
        assert_eq!(action(Context::Help, Key::char('x')), None);
    }
}
