//! What keys do on the screens, where nothing lies over them.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    orders::{self, Hold},
    prompt,
    steer::{self, Turn},
};
use crate::{
    ids::{Priority, UserChannelId},
    tui::{
        Exit,
        keymap::Action,
        model::{
            Cursor, Dialog, Export, Filter, Load, Model, Overlay, ProxyLine, Question, Screen, Sort, Step,
            Tone, UserLine, WINDOWS, export,
        },
        msg::{Effect, Saved},
        view,
    },
};

pub(super) fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    // Nothing to see: only the ways out.
    if !model.layout().fits && !matches!(action, Action::Quit) {
        return Vec::new();
    }
    let step = match action {
        Action::Down => Step::By(1),
        Action::Up => Step::By(-1),
        Action::PageDown => Step::Pages(1),
        Action::PageUp => Step::Pages(-1),
        Action::HalfPageDown => Step::HalfPages(1),
        Action::HalfPageUp => Step::HalfPages(-1),
        Action::First => Step::First,
        Action::Last => Step::Last,
        other => return other_than_step(model, other),
    };
    match model.screen {
        Screen::Streams => move_in_streams(model, step),
        Screen::Proxies => {
            let lines = model.shown().proxy_lines(&model.unfolded);
            let page = model.proxy_page();
            model.proxy_cursor.step(step, &lines, page);
        }
        Screen::Sessions => {
            let page = model.user_page();
            model.user_cursor.step(step, &model.user_lines, page);
            look_on(model);
        }
        Screen::Logs => scroll_log(model, action),
    }
    Vec::new()
}

fn move_in_streams(model: &mut Model, step: Step) {
    let mut cursor = model.cursor;
    cursor.step(step, model.rows(), model.layout().page());
    model.put_cursor(cursor);
    look_on(model);
}

/// Where a stream is looked at closely and the selection has moved on to another one: looks at that one.
fn look_on(model: &mut Model) {
    let selected = match model.screen {
        _ if model.detail.is_none() => None,
        Screen::Sessions => match model.user_cursor.selected() {
            Some(UserLine::Stream(_, id)) => Some(id),
            _ => None,
        },
        _ => model.cursor.selected(),
    };
    selected.into_iter().for_each(|id| model.look_at(id));
}

fn scroll_log(model: &mut Model, action: Action) {
    use tui_logger::TuiWidgetEvent as Event;
    if !model.log.only().is_empty() {
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
        return model.log.scroll(lines, page);
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
    model.log.state.0.transition(event);
}

fn other_than_step(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Kill => orders::ask_to_kill(model),
        Action::KillShown => orders::ask_to_kill_shown(model),
        Action::KillUser => orders::ask_to_kill_user(model),
        Action::Kick => orders::ask_to_kick(model),
        Action::Mark => mark(model),
        Action::Unmark => model.marks.clear(),
        Action::MarkShown => mark_shown(model),
        Action::Filter => prompt::ask_filter(model),
        Action::LogFilter => prompt::ask_log_filter(model),
        Action::CommandLine => prompt::ask_command(model),
        Action::SortNext | Action::SortPrevious => {
            let by = model.shown().streams.sort().by;
            let by = by.next(&view::sorts(model), action == Action::SortNext);
            sort(model, Sort { by, reversed: false });
        }
        Action::Reverse => {
            let Sort { by, reversed } = model.shown().streams.sort();
            sort(model, Sort { by, reversed: !reversed });
        }
        Action::Columns => model.overlay = Some(Overlay::Columns { at: 0 }),
        Action::ToggleEnded => {
            model.show_ended = !model.show_ended;
            model.follow();
        }
        Action::Open => open(model),
        Action::StreamsOf => streams_of(model),
        Action::LogOf => log_of(model),
        Action::More | Action::Less => scroll_log(model, action),
        Action::ShowStreams => show(model, Screen::Streams),
        Action::ShowProxies => show(model, Screen::Proxies),
        Action::ShowSessions => show(model, Screen::Sessions),
        Action::ShowLogs => show(model, Screen::Logs),
        Action::NextScreen => show(model, Screen::ALL[(model.screen.index() + 1) % 4]),
        Action::PreviousScreen => show(model, Screen::ALL[(model.screen.index() + 3) % 4]),
        Action::Freeze => model.freeze(),
        Action::LoadBy => {
            let by = if model.look.load == Load::Streams { Load::Bytes } else { Load::Streams };
            model.look.load = by;
        }
        Action::Limit => steer::ask_limit(model),
        Action::Weight => steer::ask_weight(model),
        Action::Policy => steer::ask_policy(model),
        Action::ShorterWindow => model.look.window = model.look.window.saturating_sub(1),
        Action::LongerWindow => model.look.window = (model.look.window + 1).min(WINDOWS.len() - 1),
        Action::Units => model.look.bits = !model.look.bits,
        Action::AddProxy if model.labels.join.is_some() => model.overlay = Some(Overlay::AddProxy),
        Action::AddProxy => model.say(Tone::Plain, "nobody told how a proxy joins this server"),
        Action::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() }),
        Action::Close => model.detail = None,
        Action::Back => back(model),
        Action::Mouse => {
            model.look.mouse = !model.look.mouse;
            model.say(Tone::Plain, if model.look.mouse { "the mouse is on" } else { "the mouse is off" });
            return vec![Effect::Mouse(model.look.mouse)];
        }
        other => return effects(model, other),
    }
    Vec::new()
}

/// Actions that reach outside.
fn effects(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::TogglePause => orders::hold(model, Hold::Toggle),
        Action::Pause => orders::hold(model, Hold::Pause),
        Action::Resume => orders::hold(model, Hold::Resume),
        Action::Raise => orders::give_priority(model, "raised", Priority::raised),
        Action::Lower => orders::give_priority(model, "lowered", Priority::lowered),
        Action::Copy => copy(model),
        Action::ExportCsv | Action::ExportJson => {
            let form = if action == Action::ExportCsv { Export::Csv } else { Export::Json };
            let text = export(model, form);
            vec![Effect::Save(Saved { name: "streams", extension: form.extension(), text })]
        }
        Action::Screenshot => {
            let text = screenshot(model);
            vec![Effect::Save(Saved { name: "screen", extension: "txt", text })]
        }
        Action::ToggleDrain => steer::drain(model, Turn::Over),
        Action::Drain => steer::drain(model, Turn::On),
        Action::Undrain => steer::drain(model, Turn::Off),
        Action::Quit if model.live.streams.live() == 0 => vec![Effect::Exit(Exit::Quit)],
        Action::Quit => {
            let drains = model.labels.drain.filter(|_| !model.draining);
            model.overlay = Some(Overlay::Dialog(Dialog::new(Question::Quit { drains })));
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// What the screen shows, as text.
fn screenshot(model: &Model) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, model.size.width, model.size.height));
    view::draw(model, &mut buffer);
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn show(model: &mut Model, screen: Screen) {
    model.screen = screen;
    model.detail = None;
    model.follow();
}

/// Takes away the nearest thing that hides something. Never more than one, and never the program.
fn back(model: &mut Model) {
    if model.screen == Screen::Logs && !model.log.only().is_empty() {
        model.log.show_only(String::new());
    } else if model.screen != Screen::Streams {
        show(model, Screen::Streams);
    } else if !model.filter.is_empty() {
        set_filter(model, Filter::default());
    } else {
        model.marks.clear();
    }
}

/// Shows only what passes this filter.
pub(super) fn set_filter(model: &mut Model, filter: Filter) {
    model.filter = filter;
    model.follow();
}

/// Sorts the table; a stopped display too, since nothing on it changes but the order.
pub(super) fn sort(model: &mut Model, sort: Sort) {
    let now = model.live.now;
    model.live.streams.set_sort(sort, now);
    if let Some(frozen) = &mut model.frozen {
        frozen.streams.set_sort(sort, frozen.now);
    }
    model.follow();
}

/// Marks the selected stream, or takes its mark away, and goes on to the next one.
fn mark(model: &mut Model) {
    if let Some((id, row)) = model.selected() {
        if let Some(at) = model.marks.iter().position(|mark| *mark == id) {
            model.marks.remove(at);
        } else if row.is_live() {
            model.marks.push(id);
        }
    }
    move_in_streams(model, Step::By(1));
}

fn mark_shown(model: &mut Model) {
    let live = &model.live.streams;
    let open = |id: &_| live.get(*id).is_some_and(|row| row.is_live());
    model.marks = model.rows().iter().copied().filter(open).collect();
}

fn open(model: &mut Model) {
    match model.screen {
        Screen::Streams => open_detail(model),
        Screen::Proxies => {
            let id = match model.proxy_cursor.selected() {
                Some(ProxyLine::Proxy(id)) => id,
                Some(ProxyLine::Channel(channel)) => channel.proxy,
                Some(ProxyLine::Service(_)) | None => return,
            };
            toggle(&mut model.unfolded, id);
            model.follow();
        }
        Screen::Sessions => match model.user_cursor.selected() {
            Some(UserLine::User(user)) => {
                toggle(&mut model.unfolded_users, user);
                model.follow();
            }
            Some(UserLine::Stream(_, id)) => model.look_at(id),
            None => {}
        },
        Screen::Logs => {}
    }
}

fn toggle<T: PartialEq>(unfolded: &mut Vec<T>, id: T) {
    match unfolded.iter().position(|known| *known == id) {
        Some(at) => _ = unfolded.remove(at),
        None => unfolded.push(id),
    }
}

fn open_detail(model: &mut Model) {
    if let Some(id) = model.cursor.selected() {
        model.look_at(id);
        model.cursor.choose();
    }
}

/// The user that the selection means.
pub(super) fn selected_user(model: &Model) -> Option<UserChannelId> {
    match model.screen {
        Screen::Sessions if model.detail.is_none() => model.user_cursor.selected().map(UserLine::user),
        _ => model.selected().map(|(_, row)| row.key.user),
    }
}

/// What the selected row is called.
fn selected_name(model: &Model) -> Option<String> {
    if let Some(detail) = &model.detail {
        return Some(detail.key.to_string());
    }
    match model.screen {
        Screen::Streams => model.selected().map(|(_, row)| row.key.to_string()),
        Screen::Proxies => Some(match model.proxy_cursor.selected()? {
            ProxyLine::Proxy(id) => id.to_string(),
            ProxyLine::Channel(id) => id.to_string(),
            ProxyLine::Service(id) => model.shown().services.get(id)?.key.to_string(),
        }),
        Screen::Sessions => match model.user_cursor.selected()? {
            UserLine::User(user) => Some(user.to_string()),
            UserLine::Stream(..) => model.selected().map(|(_, row)| row.key.to_string()),
        },
        Screen::Logs => None,
    }
}

fn copy(model: &mut Model) -> Vec<Effect> {
    let Some(name) = selected_name(model) else {
        model.say(Tone::Plain, "nothing is selected");
        return Vec::new();
    };
    model.say(Tone::Good, format!("{name} is in the clipboard, where the terminal allows it"));
    vec![Effect::Copy(name)]
}

/// Goes to the streams of the selected proxy or user.
fn streams_of(model: &mut Model) {
    let text = match model.screen {
        Screen::Proxies => match model.proxy_cursor.selected() {
            Some(ProxyLine::Proxy(id)) => format!("proxy:{}", word(&model.shown().proxies.name(id))),
            Some(ProxyLine::Channel(id)) => format!("proxy:{}", word(&model.shown().proxies.name(id.proxy))),
            Some(ProxyLine::Service(id)) => match model.shown().services.get(id) {
                Some(service) => format!("service:{}", service.key),
                None => return,
            },
            None => return,
        },
        Screen::Sessions => match model.user_cursor.selected() {
            Some(line) => format!("key:{}", line.user()),
            None => return,
        },
        _ => return,
    };
    model.cursor = Cursor::default();
    show(model, Screen::Streams);
    set_filter(model, Filter::parse(&text).unwrap_or_default());
}

/// A filter ends a word at a blank, and a proxy may have one in its name.
fn word(name: &str) -> &str {
    name.split_whitespace().next().unwrap_or_default()
}

fn log_of(model: &mut Model) {
    let name = match (model.screen, model.proxy_cursor.selected()) {
        _ if model.detail.is_some() => selected_name(model),
        (Screen::Proxies, Some(ProxyLine::Proxy(id))) => Some(id.to_string()),
        (Screen::Proxies, Some(ProxyLine::Channel(id))) => Some(id.to_string()),
        _ => selected_name(model),
    };
    if let Some(name) = name {
        show(model, Screen::Logs);
        model.log.show_about(name);
    }
}
