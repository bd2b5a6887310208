//! What keys do on the screens, where nothing lies over them.

use super::{
    orders::{self, PauseChange},
    prompt,
    steer::{self, DrainChange},
};
use crate::{
    ids::{Priority, UserChannelId},
    tui::{
        Exit,
        keymap::Action,
        model::{
            CHART_WINDOWS, Confirmation, Cursor, CursorStep, Dialog, ExportFormat, LoadMeasure, Model,
            NoticeLevel, Overlay, ProxyLine, ScreenId, Sort, StreamFilter, UserLine, export,
        },
        msg::{Effect, ExportFile},
        table_columns::FittedColumns,
    },
};

pub(super) fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    // Nothing to see: only the ways out.
    if !model.layout().has_table && !matches!(action, Action::Quit) {
        return Vec::new();
    }
    let step = match action {
        Action::Down => CursorStep::By(1),
        Action::Up => CursorStep::By(-1),
        Action::PageDown => CursorStep::Pages(1),
        Action::PageUp => CursorStep::Pages(-1),
        Action::HalfPageDown => CursorStep::HalfPages(1),
        Action::HalfPageUp => CursorStep::HalfPages(-1),
        Action::First => CursorStep::First,
        Action::Last => CursorStep::Last,
        other => return other_than_step(model, other),
    };
    match model.screen {
        ScreenId::Streams => move_in_streams(model, step),
        ScreenId::Proxies => {
            let lines = model.shown().proxy_lines(&model.proxies_screen.unfolded);
            let page = model.proxy_page();
            model.proxies_screen.cursor.step(step, &lines, page);
        }
        ScreenId::Sessions => {
            let page = model.user_page();
            model.sessions_screen.cursor.step(step, &model.sessions_screen.lines, page);
            look_on(model);
        }
        ScreenId::Logs => scroll_log(model, action),
    }
    Vec::new()
}

fn move_in_streams(model: &mut Model, step: CursorStep) {
    let mut cursor = model.streams_screen.cursor;
    cursor.step(step, model.rows(), model.layout().table_rows());
    model.set_stream_cursor(cursor);
    look_on(model);
}

/// Where a stream is looked at closely and the selection has moved on to another one: looks at that one.
fn look_on(model: &mut Model) {
    let selected = match model.screen {
        _ if model.detail_screen.open.is_none() => None,
        ScreenId::Sessions => match model.sessions_screen.cursor.selected() {
            Some(UserLine::Stream(_, id)) => Some(id),
            _ => None,
        },
        _ => model.streams_screen.cursor.selected(),
    };
    selected.into_iter().for_each(|id| model.open_detail(id));
}

fn scroll_log(model: &mut Model, action: Action) {
    use tui_logger::TuiWidgetEvent as Event;
    if !model.log_screen.filter().is_empty() {
        let page = usize::from(model.layout().body.height.saturating_sub(1)).max(1);
        let lines = match action {
            Action::Down => -1,
            Action::Up => 1,
            Action::PageDown => -(page as isize),
            Action::PageUp => page as isize,
            Action::First => isize::MAX,
            Action::Last => isize::MIN,
            _ => 0,
        };
        return model.log_screen.scroll(lines, page);
    }
    let of_targets = matches!(action, Action::Down | Action::Up | Action::More | Action::Less);
    if of_targets && !model.shows_log_targets() {
        return;
    }
    let event = match action {
        Action::Down => Event::DownKey,
        Action::Up => Event::UpKey,
        Action::More => Event::RightKey,
        Action::Less => Event::LeftKey,
        Action::PageUp => Event::PrevPageKey,
        Action::PageDown => Event::NextPageKey,
        _ => Event::EscapeKey,
    };
    model.log_screen.widget.0.transition(event);
}

fn other_than_step(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Kill => orders::ask_to_kill(model),
        Action::KillShown => orders::ask_to_kill_shown(model),
        Action::KillUser => orders::ask_to_kill_user(model),
        Action::Kick => orders::ask_to_kick(model),
        Action::Mark => mark(model),
        Action::Unmark => model.streams_screen.marks.clear(),
        Action::MarkShown => mark_shown(model),
        Action::Filter => prompt::ask_filter(model),
        Action::LogFilter => prompt::ask_log_filter(model),
        Action::CommandLine => prompt::ask_command(model),
        Action::SortNext | Action::SortPrevious => {
            let by = model.shown().streams.sort().by;
            let by = by.next(&FittedColumns::on_screen(model).sort_keys(), action == Action::SortNext);
            sort(model, Sort { by, reversed: false });
        }
        Action::Reverse => {
            let Sort { by, reversed } = model.shown().streams.sort();
            sort(model, Sort { by, reversed: !reversed });
        }
        Action::Columns => model.overlay = Some(Overlay::Columns { focus: 0 }),
        Action::ToggleEnded => {
            model.streams_screen.show_ended = !model.streams_screen.show_ended;
            model.refresh_rows();
        }
        Action::Open => open(model),
        Action::StreamsOf => streams_of(model),
        Action::LogOf => log_of(model),
        Action::More | Action::Less => scroll_log(model, action),
        Action::ShowStreams => show(model, ScreenId::Streams),
        Action::ShowProxies => show(model, ScreenId::Proxies),
        Action::ShowSessions => show(model, ScreenId::Sessions),
        Action::ShowLogs => show(model, ScreenId::Logs),
        Action::NextScreen => show(model, ScreenId::ALL[(model.screen.index() + 1) % 4]),
        Action::PreviousScreen => show(model, ScreenId::ALL[(model.screen.index() + 3) % 4]),
        Action::Freeze => model.toggle_freeze(),
        Action::LoadBy => {
            let by = if model.display.load_measure == LoadMeasure::Streams {
                LoadMeasure::Bytes
            } else {
                LoadMeasure::Streams
            };
            model.display.load_measure = by;
        }
        Action::Limit => steer::ask_limit(model),
        Action::Weight => steer::ask_weight(model),
        Action::Policy => steer::ask_policy(model),
        Action::ShorterWindow => model.display.chart_window = model.display.chart_window.saturating_sub(1),
        Action::LongerWindow => {
            model.display.chart_window = (model.display.chart_window + 1).min(CHART_WINDOWS.len() - 1)
        }
        Action::Units => model.display.bits = !model.display.bits,
        Action::AddProxy if model.labels.join.is_some() => model.overlay = Some(Overlay::AddProxy),
        Action::AddProxy => model.notify(NoticeLevel::Info, "nobody told how a proxy joins this server"),
        Action::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() }),
        Action::Close => model.detail_screen.open = None,
        Action::Back => back(model),
        Action::Mouse => {
            model.display.mouse = !model.display.mouse;
            model.notify(
                NoticeLevel::Info,
                if model.display.mouse { "the mouse is on" } else { "the mouse is off" },
            );
            return vec![Effect::Mouse(model.display.mouse)];
        }
        other => return effects(model, other),
    }
    Vec::new()
}

/// Actions that reach outside.
fn effects(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::TogglePause => orders::hold(model, PauseChange::Toggle),
        Action::Pause => orders::hold(model, PauseChange::Pause),
        Action::Resume => orders::hold(model, PauseChange::Resume),
        Action::Raise => orders::give_priority(model, "raised", Priority::raised),
        Action::Lower => orders::give_priority(model, "lowered", Priority::lowered),
        Action::Copy => copy(model),
        Action::ExportCsv | Action::ExportJson => {
            let form = if action == Action::ExportCsv { ExportFormat::Csv } else { ExportFormat::Json };
            let text = export(model, form);
            vec![Effect::Save(ExportFile { name: "streams", extension: form.extension(), text })]
        }
        Action::Screenshot => vec![Effect::SaveScreenshot],
        Action::ToggleDrain => steer::drain(model, DrainChange::Toggle),
        Action::Drain => steer::drain(model, DrainChange::Start),
        Action::Undrain => steer::drain(model, DrainChange::Stop),
        Action::Quit if model.live.streams.live() == 0 => vec![Effect::Exit(Exit::Quit)],
        Action::Quit => {
            let drains = model.labels.drain.filter(|_| !model.server_status.is_draining);
            model.overlay = Some(Overlay::Dialog(Dialog::new(Confirmation::Quit { drains })));
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn show(model: &mut Model, screen: ScreenId) {
    model.screen = screen;
    model.detail_screen.open = None;
    model.refresh_rows();
}

/// Takes away the nearest thing that hides something. Never more than one, and never the program.
fn back(model: &mut Model) {
    if model.screen == ScreenId::Logs && !model.log_screen.filter().is_empty() {
        model.log_screen.set_filter(String::new());
    } else if model.screen != ScreenId::Streams {
        show(model, ScreenId::Streams);
    } else if !model.streams_screen.filter.is_empty() {
        set_filter(model, StreamFilter::default());
    } else {
        model.streams_screen.marks.clear();
    }
}

/// Shows only what passes this filter.
pub(super) fn set_filter(model: &mut Model, filter: StreamFilter) {
    model.streams_screen.filter = filter;
    model.refresh_rows();
}

/// Sorts the table; a stopped display too, since nothing on it changes but the order.
pub(super) fn sort(model: &mut Model, sort: Sort) {
    let now = model.live.now;
    model.live.streams.set_sort(sort, now);
    if let Some(frozen) = &mut model.frozen {
        frozen.streams.set_sort(sort, frozen.now);
    }
    model.refresh_rows();
}

/// Marks the selected stream, or takes its mark away, and goes on to the next one.
fn mark(model: &mut Model) {
    if let Some((id, row)) = model.selected() {
        if let Some(at) = model.streams_screen.marks.iter().position(|mark| *mark == id) {
            model.streams_screen.marks.remove(at);
        } else if row.is_live() {
            model.streams_screen.marks.push(id);
        }
    }
    move_in_streams(model, CursorStep::By(1));
}

fn mark_shown(model: &mut Model) {
    let live = &model.live.streams;
    let open = |id: &_| live.get(*id).is_some_and(|row| row.is_live());
    model.streams_screen.marks = model.rows().iter().copied().filter(open).collect();
}

fn open(model: &mut Model) {
    match model.screen {
        ScreenId::Streams => open_detail(model),
        ScreenId::Proxies => {
            let id = match model.proxies_screen.cursor.selected() {
                Some(ProxyLine::Proxy(id)) => id,
                Some(ProxyLine::Channel(channel)) => channel.proxy,
                Some(ProxyLine::Service(_)) | None => return,
            };
            toggle(&mut model.proxies_screen.unfolded, id);
            model.refresh_rows();
        }
        ScreenId::Sessions => match model.sessions_screen.cursor.selected() {
            Some(UserLine::User(user)) => {
                toggle(&mut model.sessions_screen.unfolded, user);
                model.refresh_rows();
            }
            Some(UserLine::Stream(_, id)) => model.open_detail(id),
            None => {}
        },
        ScreenId::Logs => {}
    }
}

fn toggle<T: PartialEq>(unfolded: &mut Vec<T>, id: T) {
    match unfolded.iter().position(|known| *known == id) {
        Some(at) => _ = unfolded.remove(at),
        None => unfolded.push(id),
    }
}

fn open_detail(model: &mut Model) {
    if let Some(id) = model.streams_screen.cursor.selected() {
        model.open_detail(id);
        model.streams_screen.cursor.choose();
    }
}

/// The user that the selection means.
pub(super) fn selected_user(model: &Model) -> Option<UserChannelId> {
    match model.screen {
        ScreenId::Sessions if model.detail_screen.open.is_none() => {
            model.sessions_screen.cursor.selected().map(UserLine::user)
        }
        _ => model.selected().map(|(_, row)| row.key.user),
    }
}

/// What the selected row is called.
fn selected_name(model: &Model) -> Option<String> {
    if let Some(detail) = &model.detail_screen.open {
        return Some(detail.key.to_string());
    }
    match model.screen {
        ScreenId::Streams => model.selected().map(|(_, row)| row.key.to_string()),
        ScreenId::Proxies => Some(match model.proxies_screen.cursor.selected()? {
            ProxyLine::Proxy(id) => id.to_string(),
            ProxyLine::Channel(id) => id.to_string(),
            ProxyLine::Service(id) => model.shown().services.get(id)?.key.to_string(),
        }),
        ScreenId::Sessions => match model.sessions_screen.cursor.selected()? {
            UserLine::User(user) => Some(user.to_string()),
            UserLine::Stream(..) => model.selected().map(|(_, row)| row.key.to_string()),
        },
        ScreenId::Logs => None,
    }
}

fn copy(model: &mut Model) -> Vec<Effect> {
    let Some(name) = selected_name(model) else {
        model.notify(NoticeLevel::Info, "nothing is selected");
        return Vec::new();
    };
    model.notify(NoticeLevel::Success, format!("{name} is in the clipboard, where the terminal allows it"));
    vec![Effect::Copy(name)]
}

/// Goes to the streams of the selected proxy or user.
fn streams_of(model: &mut Model) {
    let text = match model.screen {
        ScreenId::Proxies => match model.proxies_screen.cursor.selected() {
            Some(ProxyLine::Proxy(id)) => format!("proxy:{}", word(&model.shown().proxies.name(id))),
            Some(ProxyLine::Channel(id)) => format!("proxy:{}", word(&model.shown().proxies.name(id.proxy))),
            Some(ProxyLine::Service(id)) => match model.shown().services.get(id) {
                Some(service) => format!("service:{}", service.key),
                None => return,
            },
            None => return,
        },
        ScreenId::Sessions => match model.sessions_screen.cursor.selected() {
            Some(line) => format!("key:{}", line.user()),
            None => return,
        },
        _ => return,
    };
    model.streams_screen.cursor = Cursor::default();
    show(model, ScreenId::Streams);
    set_filter(model, StreamFilter::parse(&text).unwrap_or_default());
}

/// A filter ends a word at a blank, and a proxy may have one in its name.
fn word(name: &str) -> &str {
    name.split_whitespace().next().unwrap_or_default()
}

fn log_of(model: &mut Model) {
    let name = match (model.screen, model.proxies_screen.cursor.selected()) {
        _ if model.detail_screen.open.is_some() => selected_name(model),
        (ScreenId::Proxies, Some(ProxyLine::Proxy(id))) => Some(id.to_string()),
        (ScreenId::Proxies, Some(ProxyLine::Channel(id))) => Some(id.to_string()),
        _ => selected_name(model),
    };
    if let Some(name) = name {
        show(model, ScreenId::Logs);
        model.log_screen.filter_by_name(name);
    }
}
