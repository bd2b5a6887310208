//! The table of all key bindings. Footer, help and command line show what stands here and nothing else.

use super::{Binding, InputContext, RequiredCapability};
use crate::tui::{
    intent::{
        ColumnListIntent, DialogIntent, DrainChange, HelpIntent, Intent, JoinCommandIntent, KillScope,
        PauseChange, PriorityChange, PromptIntent,
    },
    model::{CursorStep, ExportFormat, LineEditOp, ScreenId},
    source::PlaybackCommand,
    terminal::{Key, KeyCode, KeyModifiers},
};

/// Returns a named key without modifiers. Short, because each row of the table uses it.
const fn code(code: KeyCode) -> Key {
    Key::plain(code)
}

/// As terminals send it: with the Shift modifier.
const SHIFT_TAB: Key = Key::new(KeyCode::BackTab, KeyModifiers::SHIFT);

/// Returns the key of a character. Short, because each row of the table uses it.
const fn char(c: char) -> Key {
    Key::char(c)
}

const DOWN: Intent = Intent::Move(CursorStep::By(1));
const UP: Intent = Intent::Move(CursorStep::By(-1));
const PAGE_DOWN: Intent = Intent::Move(CursorStep::Pages(1));
const PAGE_UP: Intent = Intent::Move(CursorStep::Pages(-1));
const FIRST: Intent = Intent::Move(CursorStep::First);
const LAST: Intent = Intent::Move(CursorStep::Last);
const EDIT_BACKSPACE: Intent = Intent::Prompt(PromptIntent::Edit(LineEditOp::Backspace));

/// Each row: context, keys, how the keys are written, name, intent, footer word, help, required capability.
macro_rules! bindings {
    ($($context:ident: [$($key:expr),*] $shown:literal $name:literal $intent:expr, $short:literal $help:literal $($needs:ident)?;)+) => {
        &[$(Binding {
            context: InputContext::$context,
            keys: &[$($key),*],
            shown: $shown,
            name: $name,
            intent: $intent,
            short: $short,
            help: $help,
            requires: bindings!(@requires $($needs)?),
        }),+]
    };
    (@requires) => { RequiredCapability::None };
    (@requires $needs:ident) => { RequiredCapability::$needs };
}

use KeyCode::{Backspace, Delete, Down, End, Enter, Esc, F, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// All bindings. The footer shows them in this order, as many as fit. Those without keys are commands of the command
/// line only.
pub(crate) static BINDINGS: &[Binding] = bindings![
    Streams: [code(Enter)] "⏎" "open" Intent::Open, "detail" "show all details of the selected stream";
    Streams: [char('x'), code(Delete), code(F(9))] "x" "kill" Intent::AskToKill(KillScope::Selection), "kill" "kill the selected or the marked streams, after confirmation" Kill;
    Streams: [char('p')] "p" "toggle-pause" Intent::Pause(PauseChange::Toggle), "pause" "pause the selected or the marked streams without closing them; again: resume" Pause;
    Streams: [char('+')] "+" "raise" Intent::SetPriority(PriorityChange::Raise), "priority" "raise the priority of the stream: twice the share of a congested channel" Priority;
    Streams: [char('-')] "-" "lower" Intent::SetPriority(PriorityChange::Lower), "" "lower the priority of the stream" Priority;
    Streams: [] "" "pause" Intent::Pause(PauseChange::Pause), "" "pause the selected or the marked streams" Pause;
    Streams: [] "" "resume" Intent::Pause(PauseChange::Resume), "" "resume the selected or the marked streams" Pause;
    Streams: [] "" "priority" Intent::MissingArgument, "" "set the priority: background, low, normal, high, urgent" Priority;
    Streams: [char('l')] "l" "limit" Intent::AskForLimit, "limit" "limit the rate of the selected or the marked streams: down 10M, up 1M, 1M (both), off" Limit;
    Streams: [char('A')] "A" "kill-shown" Intent::AskToKill(KillScope::Listed), "" "kill all open streams that pass the filter, after confirmation" Kill;
    Streams: [char('K')] "K" "kill-user" Intent::AskToKill(KillScope::User), "" "kill all streams of the selected stream's user, after confirmation" Kill;
    Streams: [char('X')] "X" "kick" Intent::AskToKick, "" "close all channels of the selected stream's proxy, after confirmation; it may reconnect" Kick;
    Streams: [char('m')] "m" "mark" Intent::ToggleMark, "mark" "mark or unmark the stream; x, p, l, + and - then act on all marked streams" Kill;
    Streams: [char('M')] "M" "unmark" Intent::ClearMarks, "" "unmark all streams" Kill;
    Streams: [] "" "mark-shown" Intent::MarkListed, "" "mark every open stream that passes the filter" Kill;
    Streams: [char('/')] "/" "filter" Intent::AskForFilter, "filter" "filter: words, proxy: user: state: key: service: content: pri:, proxy=edge-1 (exactly), down>1M, age<30s, !not, /regex/";
    Streams: [char('s')] "s" "sort-next" Intent::NextSortKey, "sort" "sort by the next column on the screen";
    Streams: [char('S')] "S" "sort-previous" Intent::PreviousSortKey, "" "sort by the previous column on the screen";
    Streams: [char('r')] "r" "reverse" Intent::ReverseSort, "reverse" "reverse the sort order";
    Streams: [] "" "sort" Intent::MissingArgument, "" "sort by this key: down and up are rates, down-bytes, up-bytes, bytes, age, user, proxy …";
    Streams: [char('o')] "o" "columns" Intent::ChooseColumns, "" "choose the columns";
    Streams: [char('b')] "b" "load-by" Intent::ToggleLoadMeasure, "" "measure the load of proxies by open streams or by bytes per second";
    Streams: [char('t')] "t" "toggle-ended" Intent::ToggleEnded, "ended" "show or hide streams that have ended";
    Streams: [char('L')] "L" "log-of" Intent::ShowLogOfSelected, "" "log records about the selected stream";
    Streams: [char('e')] "e" "export-csv" Intent::Export(ExportFormat::Csv), "" "write the table to a CSV file";
    Streams: [] "" "export-json" Intent::Export(ExportFormat::Json), "" "write the table to a JSON file";

    Detail: [code(Esc), char('q'), code(Enter)] "Esc" "close" Intent::CloseDetail, "back" "back to the table";
    Detail: [char('x'), code(Delete), code(F(9))] "x" "kill" Intent::AskToKill(KillScope::Selection), "kill" "kill this stream, after confirmation" Kill;
    Detail: [char('p')] "p" "toggle-pause" Intent::Pause(PauseChange::Toggle), "pause" "pause the stream without closing it; again: resume" Pause;
    Detail: [char('+')] "+" "raise" Intent::SetPriority(PriorityChange::Raise), "priority" "raise the priority of the stream: twice the share of a congested channel" Priority;
    Detail: [char('-')] "-" "lower" Intent::SetPriority(PriorityChange::Lower), "" "lower the priority of the stream" Priority;
    Detail: [] "" "pause" Intent::Pause(PauseChange::Pause), "" "pause the stream" Pause;
    Detail: [] "" "resume" Intent::Pause(PauseChange::Resume), "" "resume the stream" Pause;
    Detail: [] "" "priority" Intent::MissingArgument, "" "set the priority: background, low, normal, high, urgent" Priority;
    Detail: [char('l')] "l" "limit" Intent::AskForLimit, "limit" "limit the rate of the stream: down 10M, up 500K, off" Limit;
    Detail: [char('K')] "K" "kill-user" Intent::AskToKill(KillScope::User), "" "kill all streams of its user, after confirmation" Kill;
    Detail: [char('L')] "L" "log-of" Intent::ShowLogOfSelected, "log" "log records about this stream";
    Detail: [char('j'), code(Down)] "j ↓" "down" DOWN, "" "next stream";
    Detail: [char('k'), code(Up)] "k ↑" "up" UP, "" "previous stream";

    Proxies: [code(Enter), code(Right)] "⏎" "open" Intent::Open, "channels" "show or hide the channels of the selected proxy";
    Proxies: [char('x'), code(Delete), code(F(9))] "x" "kick" Intent::AskToKick, "kick" "close all channels of the selected proxy, after confirmation; it may reconnect" Kick;
    Proxies: [char('l')] "l" "limit" Intent::AskForLimit, "limit" "limit the rate of the proxy or the service: down 10M, up 500K, off" Limit;
    Proxies: [char('D')] "D" "toggle-drain" Intent::Drain(DrainChange::Toggle), "drain" "drain the proxy: no new streams, open ones finish; again: undrain" Drain;
    Proxies: [] "" "drain" Intent::Drain(DrainChange::Start), "" "drain the selected proxy: no new streams, open ones finish" Drain;
    Proxies: [] "" "undrain" Intent::Drain(DrainChange::Stop), "" "assign new streams to the selected proxy again" Drain;
    Proxies: [char('w')] "w" "weight" Intent::AskForWeight, "weight" "weight of the proxy for new streams, 1 to 1000" Weight;
    Proxies: [char('P')] "P" "policy" Intent::AskForPolicy, "policy" "balancing policy of the service" Policy;
    Proxies: [char('f')] "f" "streams-of" Intent::ShowStreamsOfSelected, "streams" "streams of the selected proxy or service";
    Proxies: [char('L')] "L" "log-of" Intent::ShowLogOfSelected, "" "log records about the selected proxy";

    Sessions: [code(Enter), code(Right)] "⏎" "open" Intent::Open, "unfold" "show or hide the user's streams; show all details of a stream";
    Sessions: [char('x'), char('K'), code(Delete), code(F(9))] "x" "kill-user" Intent::AskToKill(KillScope::User), "kill" "kill all streams of the user, or the selected stream, after confirmation" Kill;
    Sessions: [char('l')] "l" "limit" Intent::AskForLimit, "limit" "limit the rate of the user's streams together, or of one stream" Limit;
    Sessions: [char('f')] "f" "streams-of" Intent::ShowStreamsOfSelected, "streams" "streams of the selected user in the table, open and ended";
    Sessions: [char('s')] "s" "sort-next" Intent::NextSortKey, "sort" "sort the users by the next figure: traffic, bytes, streams, age";
    Sessions: [char('S')] "S" "sort-previous" Intent::PreviousSortKey, "" "sort the users by the previous figure";
    Sessions: [char('L')] "L" "log-of" Intent::ShowLogOfSelected, "" "log records about the selected user";

    Logs: [char('/')] "/" "log-filter" Intent::AskForLogFilter, "find" "only records with all of these words, such as refused; warn: records of this level";
    Logs: [char('j'), code(Down)] "j ↓" "down" DOWN, "source" "next source of records";
    Logs: [char('k'), code(Up)] "k ↑" "up" UP, "" "previous source of records";
    Logs: [char('l'), code(Right)] "l →" "more" Intent::ChangeLogLevels { more: true }, "more" "show more levels of the selected source";
    Logs: [char('h'), code(Left)] "h ←" "less" Intent::ChangeLogLevels { more: false }, "less" "show fewer levels of the selected source";
    Logs: [code(PageUp), Key::ctrl('b')] "PgUp" "page-up" PAGE_UP, "" "scroll to older records";
    Logs: [code(PageDown), Key::ctrl('f')] "PgDn" "page-down" PAGE_DOWN, "" "scroll to newer records";
    Logs: [char('G'), code(End)] "G" "last" LAST, "" "follow the newest records again";

    List: [char('j'), code(Down)] "j ↓" "down" DOWN, "" "next row";
    List: [char('k'), code(Up)] "k ↑" "up" UP, "" "previous row";
    List: [code(PageDown), Key::ctrl('f')] "PgDn ^f" "page-down" PAGE_DOWN, "" "a page down";
    List: [code(PageUp), Key::ctrl('b')] "PgUp ^b" "page-up" PAGE_UP, "" "a page up";
    List: [Key::ctrl('d')] "^d" "half-page-down" Intent::Move(CursorStep::HalfPages(1)), "" "half a page down";
    List: [Key::ctrl('u')] "^u" "half-page-up" Intent::Move(CursorStep::HalfPages(-1)), "" "half a page up";
    List: [char('g'), code(Home)] "g Home" "first" FIRST, "" "first row";
    List: [char('G'), code(End)] "G End" "last" LAST, "" "last row";

    Screens: [char('1')] "1" "show-streams" Intent::ShowScreen(ScreenId::Streams), "" "streams";
    Screens: [char('2')] "2" "show-proxies" Intent::ShowScreen(ScreenId::Proxies), "" "proxies, their channels, and services";
    Screens: [char('3')] "3" "show-sessions" Intent::ShowScreen(ScreenId::Sessions), "" "users, and the links of proxies over time";
    Screens: [char('4')] "4" "show-logs" Intent::ShowScreen(ScreenId::Logs), "" "log";
    Screens: [code(Tab)] "⇥" "next-screen" Intent::NextScreen, "" "next screen";
    Screens: [SHIFT_TAB] "⇧⇥" "previous-screen" Intent::PreviousScreen, "" "previous screen";
    Screens: [char(' ')] "␣" "freeze" Intent::ToggleFreeze, "freeze" "freeze the display; counting continues. Again: unfreeze";
    Screens: [char('[')] "[" "shorter-window" Intent::ShorterChartWindow, "" "shorter time span of charts";
    Screens: [char(']')] "]" "longer-window" Intent::LongerChartWindow, "" "longer time span of charts, up to an hour";
    Screens: [char('u')] "u" "units" Intent::ToggleUnits, "" "rates in bytes or in bits";
    Screens: [char('y')] "y" "copy" Intent::Copy, "" "copy the name of the selected row to the clipboard (OSC 52)";
    Screens: [char('E')] "E" "screenshot" Intent::Screenshot, "" "write the screen to a text file";
    Screens: [char('a')] "a" "add-proxy" Intent::ShowJoinCommand, "" "show the command that joins another machine as a proxy";
    Screens: [char(':')] ":" "command-line" Intent::OpenCommandLine, "command" "run a command by its name; ⇥ completes it";
    Screens: [] "" "unblock" Intent::MissingArgument, "" "let proxies connect again from an address that was blocked because of wrong tokens: :unblock 192.0.2.1" Unblock;
    Screens: [] "" "ban" Intent::MissingArgument, "" "refuse the users of a network until the server ends, and reset their streams: :ban 192.0.2.0/24" Ban;
    Screens: [] "" "unban" Intent::MissingArgument, "" "admit the users of a banned network again: :unban 192.0.2.0/24" Ban;
    Screens: [] "" "theme" Intent::MissingArgument, "" "set the theme: dark, light, ansi, safe, none";
    Screens: [] "" "mouse" Intent::ToggleMouse, "" "enable or disable the mouse";
    Screens: [char('.')] "." "step" Intent::Play(PlaybackCommand::Step), "step" "replay: pause, and go on by a second" Playback;
    Screens: [char(',')] "," "step-back" Intent::Play(PlaybackCommand::SeekBy(-5_000)), "" "replay: five seconds back" Playback;
    Screens: [char('}')] "}" "forward" Intent::Play(PlaybackCommand::SeekBy(60_000)), "" "replay: a minute forward" Playback;
    Screens: [char('{')] "{" "rewind" Intent::Play(PlaybackCommand::SeekBy(-60_000)), "" "replay: a minute back" Playback;
    Screens: [char('>')] ">" "faster" Intent::Play(PlaybackCommand::ChangeSpeed(true)), "faster" "replay: twice as fast" Playback;
    Screens: [char('<')] "<" "slower" Intent::Play(PlaybackCommand::ChangeSpeed(false)), "" "replay: half as fast" Playback;
    Screens: [char('n')] "n" "next" Intent::Play(PlaybackCommand::Next(None)), "next event" "replay: go to the next failure, warning, action of the operator, or change of a proxy; :next failure to that kind" Playback;
    Screens: [] "" "seek" Intent::MissingArgument, "" "replay: go to a time: :seek 14:05, :seek 14:05:30, :seek +10m, :seek -30s, :seek start, :seek end" Playback;
    Screens: [] "" "speed" Intent::MissingArgument, "" "replay: set the speed: :speed 10" Playback;
    Screens: [code(Esc)] "Esc" "back" Intent::Back, "" "clear the filter, then the marks; never quits";
    Anywhere: [char('?'), code(F(1))] "?" "help" Intent::OpenHelp, "help" "this help";
    Screens: [char('q')] "q" "quit" Intent::Quit, "quit" "end the server and quit; asks for confirmation while streams are open. An attached cockpit only detaches" Shutdown;
    Screens: [] "" "detach" Intent::Detach, "" "leave the terminal to the shell; the server continues, and `underpass attach` shows it again" Shutdown;

    Dialog: [code(Enter)] "⏎" "press" Intent::Dialog(DialogIntent::Press), "choose" "press the focused button: initially Cancel; the other one once the number is typed";
    Dialog: [char('y')] "y" "yes" Intent::Dialog(DialogIntent::Confirm), "yes" "confirm; not where the program would end";
    Dialog: [code(Tab), code(Right)] "⇥ →" "next" Intent::Dialog(DialogIntent::NextButton), "next" "next button";
    Dialog: [SHIFT_TAB, code(Left)] "⇧⇥ ←" "previous" Intent::Dialog(DialogIntent::PreviousButton), "" "previous button";
    Dialog: [code(Esc), char('n'), char('q')] "Esc n" "close" Intent::Dialog(DialogIntent::Cancel), "cancel" "close the dialog; nothing is done";

    Prompt: [code(Enter)] "⏎" "press" Intent::Prompt(PromptIntent::Accept), "done" "accept the text";
    Prompt: [code(Tab)] "⇥" "complete" Intent::Prompt(PromptIntent::Complete), "complete" "complete the word";
    Prompt: [code(Esc)] "Esc" "close" Intent::Prompt(PromptIntent::Cancel), "cancel" "close the prompt; the previous value is restored";
    Prompt: [code(Up), Key::ctrl('p')] "↑" "older" Intent::Prompt(PromptIntent::Recall { older: true }), "" "recall an older line";
    Prompt: [code(Down), Key::ctrl('n')] "↓" "newer" Intent::Prompt(PromptIntent::Recall { older: false }), "" "recall a newer line";
    Prompt: [code(Backspace)] "⌫" "backspace" EDIT_BACKSPACE, "" "delete the previous character";
    Prompt: [code(Delete)] "Del" "delete" Intent::Prompt(PromptIntent::Edit(LineEditOp::Delete)), "" "delete the next character";
    Prompt: [Key::ctrl('w')] "^w" "delete-word" Intent::Prompt(PromptIntent::Edit(LineEditOp::DeleteWord)), "" "delete the previous word";
    Prompt: [Key::ctrl('u')] "^u" "delete-all" Intent::Prompt(PromptIntent::Edit(LineEditOp::DeleteAll)), "" "delete the whole text";
    Prompt: [code(Left)] "←" "left" Intent::Prompt(PromptIntent::Edit(LineEditOp::Left)), "" "previous character";
    Prompt: [code(Right)] "→" "right" Intent::Prompt(PromptIntent::Edit(LineEditOp::Right)), "" "next character";
    Prompt: [code(Home), Key::ctrl('a')] "Home" "first" Intent::Prompt(PromptIntent::Edit(LineEditOp::Home)), "" "start of the text";
    Prompt: [code(End), Key::ctrl('e')] "End" "last" Intent::Prompt(PromptIntent::Edit(LineEditOp::End)), "" "end of the text";

    Columns: [code(Enter), char(' ')] "␣" "press" Intent::Columns(ColumnListIntent::Toggle), "show or hide" "show or hide the column; columns asked for take precedence over the others";
    Columns: [char('j'), code(Down)] "j ↓" "down" Intent::Columns(ColumnListIntent::Move(CursorStep::By(1))), "down" "next column";
    Columns: [char('k'), code(Up)] "k ↑" "up" Intent::Columns(ColumnListIntent::Move(CursorStep::By(-1))), "" "previous column";
    Columns: [char('g'), code(Home)] "g" "first" Intent::Columns(ColumnListIntent::Move(CursorStep::First)), "" "first column";
    Columns: [char('G'), code(End)] "G" "last" Intent::Columns(ColumnListIntent::Move(CursorStep::Last)), "" "last column";
    Columns: [char('r')] "r" "reset" Intent::Columns(ColumnListIntent::Reset), "reset" "let the width of the screen decide again";
    Columns: [code(Esc), char('q'), char('o')] "Esc" "close" Intent::Columns(ColumnListIntent::Close), "close" "close the list";

    AddProxy: [char('y'), code(Enter)] "y" "copy" Intent::JoinCommand(JoinCommandIntent::Copy), "copy" "copy the command to the clipboard (OSC 52)";
    AddProxy: [char('t')] "t" "token" Intent::JoinCommand(JoinCommandIntent::ToggleSecret), "token" "show or hide the token in the command";
    AddProxy: [code(Esc), char('q'), char('a'), char('?'), code(F(1))] "Esc" "close" Intent::JoinCommand(JoinCommandIntent::Close), "close" "close";

    Help: [char('j'), code(Down)] "j ↓" "down" Intent::Help(HelpIntent::Scroll(CursorStep::By(1))), "down" "scroll down";
    Help: [char('k'), code(Up)] "k ↑" "up" Intent::Help(HelpIntent::Scroll(CursorStep::By(-1))), "up" "scroll up";
    Help: [char('/')] "/" "filter" Intent::Help(HelpIntent::Search), "find" "only entries that contain this text";
    Help: [code(PageDown), char(' '), Key::ctrl('f')] "PgDn" "page-down" Intent::Help(HelpIntent::Scroll(CursorStep::Pages(1))), "" "a page down";
    Help: [code(PageUp), Key::ctrl('b')] "PgUp" "page-up" Intent::Help(HelpIntent::Scroll(CursorStep::Pages(-1))), "" "a page up";
    Help: [char('g'), code(Home)] "g" "first" Intent::Help(HelpIntent::Scroll(CursorStep::First)), "" "to the top";
    Help: [char('G'), code(End)] "G" "last" Intent::Help(HelpIntent::Scroll(CursorStep::Last)), "" "to the end";
    Help: [code(Esc), char('q'), char('?'), code(F(1)), code(Enter)] "Esc" "close" Intent::Help(HelpIntent::Close), "close" "close the help";

    Anywhere: [Key::ctrl('c')] "^C" "interrupt" Intent::Interrupt, "" "close what is open over the screen; else quit, like q";
    Anywhere: [Key::ctrl('l')] "^L" "redraw" Intent::Redraw, "" "redraw the screen";
    Anywhere: [Key::ctrl('z')] "^Z" "suspend" Intent::Suspend, "" "suspend the program, the tunnel included, until fg" Shutdown;
];
