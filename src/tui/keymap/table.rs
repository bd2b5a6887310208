//! The table itself.

use super::{Action, Binding, InputContext, Needs};
use crate::tui::terminal::{Key, KeyCode, KeyModifiers};

const fn code(code: KeyCode) -> Key {
    Key::plain(code)
}

/// As a terminal sends it: with the modifier.
const SHIFT_TAB: Key = Key::new(KeyCode::BackTab, KeyModifiers::SHIFT);

const fn char(c: char) -> Key {
    Key::char(c)
}

macro_rules! bindings {
    ($($context:ident: [$($key:expr),*] $shown:literal $action:ident $short:literal $help:literal $($needs:ident)?;)+) => {
        &[$(Binding {
            context: InputContext::$context,
            keys: &[$($key),*],
            shown: $shown,
            action: Action::$action,
            short: $short,
            help: $help,
            needs: bindings!(@needs $($needs)?),
        }),+]
    };
    (@needs) => { Needs::Nothing };
    (@needs $needs:ident) => { Needs::$needs };
}

use KeyCode::{Backspace, Delete, Down, End, Enter, Esc, F, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// All bindings. The footer shows them in this order, as far as it is wide enough. Those without keys are only for
/// the command line.
pub(crate) static BINDINGS: &[Binding] = bindings![
    Streams: [code(Enter)] "⏎" Open "detail" "look at the selected stream closely";
    Streams: [char('x'), code(Delete), code(F(9))] "x" Kill "kill" "kill the selected stream or the marked ones, after asking" Kill;
    Streams: [char('p')] "p" TogglePause "pause" "hold the selected stream or the marked ones without closing anything; again: let it go on" Pause;
    Streams: [char('+')] "+" Raise "priority" "the next higher priority: twice the share of a crowded channel" Priority;
    Streams: [char('-')] "-" Lower "" "the next lower priority" Priority;
    Streams: [] "" Pause "" "hold the selected stream or the marked ones" Pause;
    Streams: [] "" Resume "" "let the selected stream or the marked ones go on" Pause;
    Streams: [] "" Priority "" "give this priority: background, low, normal, high, urgent" Priority;
    Streams: [char('l')] "l" Limit "limit" "limit the stream or the marked ones: down 10M, up 1M, off" Limit;
    Streams: [char('A')] "A" KillShown "" "kill all open streams that the filter shows, after asking" Kill;
    Streams: [char('K')] "K" KillUser "" "kill all streams of the selected stream's user, after asking" Kill;
    Streams: [char('X')] "X" Kick "" "kick the proxy that has the selected stream, after asking; it may come back" Kick;
    Streams: [char('m')] "m" Mark "mark" "mark the stream, or take its mark away; x, p, l, + and - then act on all that are marked" Kill;
    Streams: [char('M')] "M" Unmark "" "unmark all" Kill;
    Streams: [] "" MarkShown "" "mark every open stream that the filter shows" Kill;
    Streams: [char('/')] "/" Filter "filter" "filter: words, proxy: user: state: key: service: carries: pri:, down>1M, age<30s, !not, /expression/";
    Streams: [char('s')] "s" SortNext "sort" "sort by the next column on screen";
    Streams: [char('S')] "S" SortPrevious "" "sort by the column before";
    Streams: [char('r')] "r" Reverse "reverse" "reverse the order";
    Streams: [] "" Sort "" "sort by this: down and up are rates, down-bytes, up-bytes, bytes, age, user, proxy …";
    Streams: [char('o')] "o" Columns "" "choose the columns";
    Streams: [char('b')] "b" LoadBy "" "load of the proxies by open streams, or by bytes a second";
    Streams: [char('t')] "t" ToggleEnded "ended" "show or hide streams that have ended";
    Streams: [char('L')] "L" LogOf "" "the log of the selected stream";
    Streams: [char('e')] "e" ExportCsv "" "write the table to a file, as CSV";
    Streams: [] "" ExportJson "" "write the table to a file, as JSON";

    Detail: [code(Esc), char('q'), code(Enter)] "Esc" Close "back" "back to the table";
    Detail: [char('x'), code(Delete), code(F(9))] "x" Kill "kill" "kill this stream, after asking" Kill;
    Detail: [char('p')] "p" TogglePause "pause" "hold the stream without closing anything; again: let it go on" Pause;
    Detail: [char('+')] "+" Raise "priority" "the next higher priority: twice the share of a crowded channel" Priority;
    Detail: [char('-')] "-" Lower "" "the next lower priority" Priority;
    Detail: [] "" Pause "" "hold the stream" Pause;
    Detail: [] "" Resume "" "let the stream go on" Pause;
    Detail: [] "" Priority "" "give this priority: background, low, normal, high, urgent" Priority;
    Detail: [char('l')] "l" Limit "limit" "limit the stream: down 10M, up 500K, off" Limit;
    Detail: [char('K')] "K" KillUser "" "kill all streams of its user, after asking" Kill;
    Detail: [char('L')] "L" LogOf "log" "its log";
    Detail: [char('j'), code(Down)] "j ↓" Down "" "next stream";
    Detail: [char('k'), code(Up)] "k ↑" Up "" "stream before";

    Proxies: [code(Enter), code(Right)] "⏎" Open "channels" "show or hide the channels of the selected proxy";
    Proxies: [char('x'), code(Delete), code(F(9))] "x" Kick "kick" "kick the selected proxy, after asking; it may come back" Kick;
    Proxies: [char('l')] "l" Limit "limit" "limit the proxy or the service: down 10M, up 500K, off" Limit;
    Proxies: [char('D')] "D" ToggleDrain "drain" "give it no new streams, open ones finish; again: give some" Drain;
    Proxies: [] "" Drain "" "give the selected proxy no new streams" Drain;
    Proxies: [] "" Undrain "" "give the selected proxy new streams again" Drain;
    Proxies: [char('w')] "w" Weight "weight" "its share of new streams beside other proxies, 1 to 1000" Weight;
    Proxies: [char('P')] "P" Policy "policy" "how the service gives its new streams to its proxies" Policy;
    Proxies: [char('f')] "f" StreamsOf "streams" "the streams of the selected proxy or service";
    Proxies: [char('L')] "L" LogOf "" "the log of the selected proxy";

    Sessions: [code(Enter), code(Right)] "⏎" Open "unfold" "show or hide the user's streams; look at a stream closely";
    Sessions: [char('x'), char('K'), code(Delete), code(F(9))] "x" KillUser "kill" "kill the user's streams, or the selected one, after asking" Kill;
    Sessions: [char('l')] "l" Limit "limit" "limit the user, all its streams together, or one stream" Limit;
    Sessions: [char('f')] "f" StreamsOf "filter" "the streams of the selected user, in the table";
    Sessions: [char('L')] "L" LogOf "" "the log of the selected user";

    Logs: [char('/')] "/" LogFilter "find" "only lines with this in them";
    Logs: [char('j'), code(Down)] "j ↓" Down "target" "next target";
    Logs: [char('k'), code(Up)] "k ↑" Up "" "target before";
    Logs: [char('l'), code(Right)] "l →" More "more" "show more levels of the selected target";
    Logs: [char('h'), code(Left)] "h ←" Less "less" "show fewer levels of the selected target";
    Logs: [code(PageUp), Key::ctrl('b')] "PgUp" PageUp "" "scroll back";
    Logs: [code(PageDown), Key::ctrl('f')] "PgDn" PageDown "" "scroll forth";
    Logs: [char('G'), code(End)] "G" Last "" "follow the end again";

    List: [char('j'), code(Down)] "j ↓" Down "" "next row";
    List: [char('k'), code(Up)] "k ↑" Up "" "row before";
    List: [code(PageDown), Key::ctrl('f')] "PgDn ^f" PageDown "" "a page down";
    List: [code(PageUp), Key::ctrl('b')] "PgUp ^b" PageUp "" "a page up";
    List: [Key::ctrl('d')] "^d" HalfPageDown "" "half a page down";
    List: [Key::ctrl('u')] "^u" HalfPageUp "" "half a page up";
    List: [char('g'), code(Home)] "g Home" First "" "first row";
    List: [char('G'), code(End)] "G End" Last "" "last row";

    Screens: [char('1')] "1" ShowStreams "" "the streams";
    Screens: [char('2')] "2" ShowProxies "" "the proxies and their channels";
    Screens: [char('3')] "3" ShowSessions "" "users and links over time";
    Screens: [char('4')] "4" ShowLogs "" "the log";
    Screens: [code(Tab)] "⇥" NextScreen "" "next screen";
    Screens: [SHIFT_TAB] "⇧⇥" PreviousScreen "" "screen before";
    Screens: [char(' ')] "␣" Freeze "freeze" "stop the display; what is counted goes on. Again: go on";
    Screens: [char('[')] "[" ShorterWindow "" "charts over a shorter time";
    Screens: [char(']')] "]" LongerWindow "" "charts over a longer time, up to an hour";
    Screens: [char('u')] "u" Units "" "rates in bytes or in bits";
    Screens: [char('y')] "y" Copy "" "copy the name of the selected row to the clipboard";
    Screens: [char('E')] "E" Screenshot "" "write the screen to a file, as text";
    Screens: [char('a')] "a" AddProxy "" "how another machine becomes a proxy";
    Screens: [char(':')] ":" CommandLine "command" "a command by its name; ⇥ completes it";
    Screens: [] "" Theme "" "another theme: dark, light, ansi, safe, none";
    Screens: [] "" Mouse "" "clicks and the wheel on, or off again";
    Screens: [code(Esc)] "Esc" Back "" "take away the filter, then the marks; never quits";
    Anywhere: [char('?'), code(F(1))] "?" Help "help" "this help";
    Screens: [char('q')] "q" Quit "quit" "quit; asks while streams are open";

    Dialog: [code(Enter), char(' ')] "⏎" Press "choose" "press the button in focus; at first that is Cancel";
    Dialog: [code(Tab), code(Right), char('l')] "⇥ →" Next "next" "next button";
    Dialog: [SHIFT_TAB, code(Left), char('h')] "⇧⇥ ←" Previous "" "button before";
    Dialog: [char('y')] "y" Yes "yes" "do what the dialog asks about";
    Dialog: [char('d')] "d" DrainFirst "" "let open streams finish, where the dialog offers it";
    Dialog: [code(Esc), char('n'), char('q')] "Esc n" Close "cancel" "leave; nothing happens";

    Prompt: [code(Enter)] "⏎" Press "done" "take what was typed";
    Prompt: [code(Tab)] "⇥" Complete "complete" "complete the word";
    Prompt: [code(Esc)] "Esc" Close "cancel" "leave; what was before stays";
    Prompt: [code(Backspace)] "⌫" Backspace "" "take the last character back";
    Prompt: [code(Delete)] "Del" Delete "" "take the next character away";
    Prompt: [Key::ctrl('w')] "^w" DeleteWord "" "take the last word back";
    Prompt: [Key::ctrl('u')] "^u" DeleteAll "" "take everything back";
    Prompt: [code(Left)] "←" Left "" "a character back";
    Prompt: [code(Right)] "→" Right "" "a character forth";
    Prompt: [code(Home), Key::ctrl('a')] "Home" First "" "to the beginning";
    Prompt: [code(End), Key::ctrl('e')] "End" Last "" "to the end";

    Columns: [code(Enter), char(' ')] "␣" Press "show or hide" "show or hide the column; one that is asked for goes before those that are not";
    Columns: [char('j'), code(Down)] "j ↓" Down "down" "next column";
    Columns: [char('k'), code(Up)] "k ↑" Up "" "column before";
    Columns: [char('g'), code(Home)] "g" First "" "first column";
    Columns: [char('G'), code(End)] "G" Last "" "last column";
    Columns: [char('r')] "r" Reset "as at first" "let the width of the screen decide again";
    Columns: [code(Esc), char('q'), char('o')] "Esc" Close "close" "close the list";

    AddProxy: [char('y'), code(Enter)] "y" Copy "copy" "copy the command to the clipboard";
    AddProxy: [code(Esc), char('q'), char('a')] "Esc" Close "close" "close";

    Help: [char('j'), code(Down)] "j ↓" Down "down" "scroll down";
    Help: [char('k'), code(Up)] "k ↑" Up "up" "scroll up";
    Help: [char('/')] "/" Filter "find" "only entries with this in them";
    Help: [code(PageDown), char(' '), Key::ctrl('f')] "PgDn" PageDown "" "a page down";
    Help: [code(PageUp), Key::ctrl('b')] "PgUp" PageUp "" "a page up";
    Help: [char('g'), code(Home)] "g" First "" "to the top";
    Help: [char('G'), code(End)] "G" Last "" "to the end";
    Help: [code(Esc), char('q'), char('?'), code(F(1)), code(Enter)] "Esc" Close "close" "close the help";

    Anywhere: [Key::ctrl('c')] "^C" Interrupt "" "let open streams finish, then quit; twice: quit at once";
    Anywhere: [Key::ctrl('l')] "^L" Redraw "" "draw the screen anew";
    Anywhere: [Key::ctrl('z')] "^Z" Suspend "" "back to the shell; the tunnel stops too, until fg";
];
