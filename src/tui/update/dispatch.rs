//! The one match over [`Intent`]: each has its handler here, whether a key, the command line or the mouse produced it.

use super::{
    batch, columns, dialog, help, limits, navigation, prompt, proxies, selection, shutdown, streams,
};
use crate::control::Command;
use crate::tui::{
    Exit, command_line,
    intent::{Intent, JoinCommandIntent},
    labels::Role,
    model::{CHART_WINDOWS, ExportFormat, LoadMeasure, Model, NoticeLevel, Overlay, PromptKind, export},
    msg::{Effect, ExportFile},
    source::PlaybackCommand,
};

/// Performs an intent: changes the model, and returns what has to be done outside of it.
pub(super) fn perform(model: &mut Model, intent: Intent) -> Vec<Effect> {
    if !is_applicable(model, &intent) {
        return Vec::new();
    }
    let acts_unasked = matches!(intent, Intent::Pause(_) | Intent::SetPriority(_) | Intent::Drain(_));
    if acts_unasked && selection::has_just_moved(model) {
        return Vec::new();
    }
    match intent {
        Intent::Move(step) => navigation::move_cursor(model, step),
        Intent::SelectRow(index) => navigation::select_row(model, index),
        Intent::ShowScreen(screen) => navigation::show(model, screen),
        Intent::NextScreen => navigation::show_neighbour(model, 1),
        Intent::PreviousScreen => navigation::show_neighbour(model, 3),
        Intent::Open => navigation::open(model),
        Intent::CloseDetail => model.detail_screen.open = None,
        Intent::Back => navigation::back(model),
        Intent::ShowStreamsOfSelected => navigation::show_streams_of_selected(model),
        Intent::ShowLogOfSelected => navigation::show_log_of_selected(model),
        Intent::ChangeLogLevels { more } => navigation::change_log_levels(model, more),

        Intent::AskToKill(scope) => streams::ask_to_kill(model, scope),
        Intent::Kill(targets) => return streams::kill(model, &targets),
        Intent::KillUser(user) => return streams::kill_user(model, user),
        Intent::AskToKick => proxies::ask_to_kick(model),
        Intent::Kick(proxy) => return proxies::kick(model, proxy),
        Intent::Pause(change) => return streams::pause(model, change),
        Intent::SetPriority(change) => return streams::set_priority(model, change),
        Intent::AskForLimit => limits::ask(model),
        Intent::SetLimit(target, changes) => return limits::set(model, target, &changes),
        Intent::Drain(change) => return proxies::drain(model, change),
        Intent::AskForWeight => proxies::ask_for_weight(model),
        Intent::SetWeight(proxy, weight) => return proxies::set_weight(model, proxy, weight),
        Intent::AskForPolicy => proxies::ask_for_policy(model),
        Intent::SetPolicy(service, policy) => return proxies::set_policy(model, service, policy),
        Intent::Unblock(address) => {
            return batch::send_one(model, address.to_string(), "unblocked", Command::Unblock(address));
        }
        Intent::Ban(network) => {
            return batch::send_one(model, network.to_string(), "banned", Command::Ban(network));
        }
        Intent::Unban(network) => {
            return batch::send_one(model, network.to_string(), "unbanned", Command::Unban(network));
        }

        Intent::ToggleMark => streams::toggle_mark(model),
        Intent::ClearMarks => model.streams_screen.marks.clear(),
        Intent::MarkListed => streams::mark_listed(model),
        Intent::AskForFilter => prompt::open_filter(model),
        Intent::SetFilter(filter) => navigation::set_filter(model, filter),
        Intent::AskForLogFilter => prompt::open_log_filter(model),
        Intent::NextSortKey => navigation::step_sort_key(model, true),
        Intent::PreviousSortKey => navigation::step_sort_key(model, false),
        Intent::ReverseSort => navigation::reverse_sort(model),
        Intent::SetSort(sort) => navigation::set_sort(model, sort),
        Intent::ChooseColumns => model.overlay = Some(Overlay::Columns { focus: 0 }),
        Intent::ToggleEnded => navigation::toggle_ended(model),
        Intent::Export(format) => return write_table(model, format),

        Intent::ToggleLoadMeasure => {
            model.display.load_measure = match model.display.load_measure {
                LoadMeasure::Streams => LoadMeasure::Bytes,
                LoadMeasure::Bytes => LoadMeasure::Streams,
            };
        }
        Intent::SetLoadMeasure(measure) => model.display.load_measure = measure,
        // A replay is paused instead: it waits.
        Intent::ToggleFreeze if model.labels.role == Role::Replay => {
            return vec![Effect::Play(PlaybackCommand::TogglePause)];
        }
        Intent::ToggleFreeze => model.toggle_freeze(),
        Intent::Play(command) => return vec![Effect::Play(command)],
        Intent::ShorterChartWindow => {
            model.display.chart_window = model.display.chart_window.saturating_sub(1);
        }
        Intent::LongerChartWindow => {
            model.display.chart_window = (model.display.chart_window + 1).min(CHART_WINDOWS.len() - 1);
        }
        Intent::SetChartWindow(window) => model.display.chart_window = window.min(CHART_WINDOWS.len() - 1),
        Intent::ToggleUnits => model.display.bits = !model.display.bits,
        Intent::SetTheme(theme) => model.theme = *theme,
        Intent::ToggleMouse => {
            model.display.mouse = !model.display.mouse;
            let text = if model.display.mouse { "mouse enabled" } else { "mouse disabled" };
            model.notify(NoticeLevel::Info, text);
            return vec![Effect::Mouse(model.display.mouse)];
        }
        Intent::Copy => return copy_selected_name(model),
        Intent::Screenshot => return vec![Effect::SaveScreenshot],
        Intent::ShowJoinCommand => navigation::show_join_command(model),
        Intent::OpenCommandLine => prompt::open(model, PromptKind::Command, String::new()),
        Intent::OpenHelp => help::open(model),
        Intent::MissingArgument => model.notify(NoticeLevel::Warning, command_line::MISSING_ARGUMENT),

        Intent::Quit => return shutdown::quit(model),
        Intent::QuitNow => return vec![Effect::Exit(Exit::Quit)],
        Intent::Detach => return shutdown::detach(model),
        Intent::DrainServer => return shutdown::drain(model),
        Intent::Interrupt => return shutdown::interrupt(model),
        Intent::Redraw => return vec![Effect::Repaint],
        Intent::Suspend => return vec![Effect::Suspend],

        Intent::Dialog(intent) => return perform_next(model, dialog::handle, intent),
        Intent::Prompt(intent) => return perform_next(model, prompt::handle, intent),
        Intent::Help(intent) => help::handle(model, intent),
        Intent::Columns(intent) => columns::handle(model, intent),
        Intent::JoinCommand(intent) => return in_join_command(model, intent),
    }
    Vec::new()
}

/// Returns whether an intent has an effect now. While an overlay is open, only its own intents have one, and those
/// that work everywhere; on a terminal too small for a table, only those that quit.
fn is_applicable(model: &Model, intent: &Intent) -> bool {
    match (intent, &model.overlay) {
        (Intent::Interrupt | Intent::Redraw | Intent::Suspend, _)
        | (Intent::Dialog(_), Some(Overlay::Dialog(_)))
        | (Intent::Prompt(_), Some(Overlay::Prompt(_)))
        | (Intent::Help(_), Some(Overlay::Help { .. }))
        | (Intent::Columns(_), Some(Overlay::Columns { .. }))
        | (Intent::JoinCommand(_), Some(Overlay::AddProxy { .. })) => true,
        (_, Some(_)) => false,
        (Intent::Quit | Intent::QuitNow | Intent::Detach | Intent::DrainServer, None) => true,
        (_, None) => model.layout().has_table,
    }
}

/// Lets the open overlay handle its intent, and performs the intent that the overlay returns: what was confirmed or
/// typed.
fn perform_next<T>(
    model: &mut Model,
    handle: impl FnOnce(&mut Model, T) -> Option<Intent>,
    intent: T,
) -> Vec<Effect> {
    match handle(model, intent) {
        Some(next) => perform(model, next),
        None => Vec::new(),
    }
}

/// Exports the listed rows of the streams table, and returns the effect that writes them to a file.
fn write_table(model: &Model, format: ExportFormat) -> Vec<Effect> {
    let text = export(model, format);
    vec![Effect::Save(ExportFile { name: "streams", extension: format.extension(), text })]
}

/// Returns the effect that copies the name of the selected stream, user, proxy, channel or service to the clipboard,
/// and says so in a notice.
fn copy_selected_name(model: &mut Model) -> Vec<Effect> {
    let Some(name) = selection::name(model) else {
        model.notify(NoticeLevel::Info, "nothing copied: no row is selected");
        return Vec::new();
    };
    model.notify(NoticeLevel::Success, format!("{name} copied (OSC 52)"));
    vec![Effect::Copy(name)]
}

/// Shows or hides the token in the window with the join command, or closes the window; for [`JoinCommandIntent::Copy`],
/// also returns the effect that copies the command to the clipboard.
fn in_join_command(model: &mut Model, intent: JoinCommandIntent) -> Vec<Effect> {
    if let (JoinCommandIntent::ToggleSecret, Some(Overlay::AddProxy { is_secret_shown })) =
        (intent, &mut model.overlay)
    {
        if model.labels.secret.is_some() {
            *is_secret_shown = !*is_secret_shown;
        } else {
            model.notify(NoticeLevel::Info, "the command contains no token");
        }
        return Vec::new();
    }
    model.overlay = None;
    match (intent, model.join_command()) {
        (JoinCommandIntent::Copy, Some(join)) => {
            model.notify(NoticeLevel::Success, "command copied (OSC 52)");
            vec![Effect::Copy(join)]
        }
        (JoinCommandIntent::Copy | JoinCommandIntent::ToggleSecret | JoinCommandIntent::Close, _) => {
            Vec::new()
        }
    }
}
