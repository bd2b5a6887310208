//! Moves between screens and rows, and changes what the streams table lists. Nothing here reaches the server.

use crate::{
    control::StreamFilter,
    ids::ProxyId,
    tui::{
        labels::Role,
        model::{
            Cursor, CursorStep, MESSAGE_INDENT, Model, NoticeLevel, Overlay, PageSize, ProxyLine, ProxyRows,
            RowId, ScreenId, Sort, UserLine,
        },
    },
};

use super::selection;

/// Moves the cursor of the current screen by a step; on the log screen, scrolls the log.
pub(super) fn move_cursor(model: &mut Model, step: CursorStep) {
    match model.screen {
        ScreenId::Streams => move_in_streams(model, step),
        ScreenId::Proxies => {
            let lines = model.shown().proxy_lines(&model.proxies_screen.unfolded);
            let page = model.proxy_page();
            model.proxies_screen.cursor.step(step, &lines, page);
        }
        ScreenId::Sessions => {
            let page = model.user_page();
            let screen = &mut model.sessions_screen;
            screen.cursor.step(step, &screen.lines, page);
            follow_with_detail(model);
        }
        ScreenId::Logs => scroll_log(model, step),
    }
}

/// Moves the cursor of the streams table by a step. An open detail screen follows it to the newly selected stream.
pub(super) fn move_in_streams(model: &mut Model, step: CursorStep) {
    let mut cursor = model.streams_screen.cursor;
    cursor.step(step, model.rows(), model.layout().table_rows());
    put_stream_cursor(model, cursor);
    follow_with_detail(model);
}

/// Puts the cursor of the streams table on a row that the operator chose. On an ended one it stays.
fn put_stream_cursor(model: &mut Model, cursor: Cursor<RowId>) {
    model.set_stream_cursor(cursor);
    let chosen = cursor.selected().and_then(|id| Some((id, model.shown().streams.get(id)?)));
    model.streams_screen.chosen_ended_row = chosen.filter(|(_, row)| !row.is_live()).map(|(id, _)| id);
}

/// Selects the row of the streams table at this index, if there is one.
pub(super) fn select_row(model: &mut Model, index: usize) {
    if index < model.rows().len() {
        let mut cursor = model.streams_screen.cursor;
        cursor.point(index, model.rows(), model.layout().table_rows());
        put_stream_cursor(model, cursor);
    }
}

/// If the detail screen is open, makes it show the stream that the cursor selects now.
fn follow_with_detail(model: &mut Model) {
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

/// Scrolls the filtered log, or that of another process, by records. Otherwise moves the selected log target, or
/// scrolls tui-logger's widget.
fn scroll_log(model: &mut Model, step: CursorStep) {
    use tui_logger::TuiWidgetEvent as Event;
    if model.log_screen.lists_own_records() {
        let size = PageSize {
            lines: usize::from(model.layout().body.height.saturating_sub(1)).max(1),
            message_width: usize::from(model.size.width).saturating_sub(MESSAGE_INDENT),
        };
        // Positive scrolls to older records, which stand above.
        return match step {
            CursorStep::By(rows) => model.log_screen.scroll(-rows, size),
            CursorStep::Pages(count) => model.log_screen.scroll_pages(-count, size),
            CursorStep::HalfPages(_) => {}
            CursorStep::First => model.log_screen.scroll(isize::MAX, size),
            CursorStep::Last => model.log_screen.scroll(isize::MIN, size),
        };
    }
    let (event, times) = match step {
        CursorStep::By(_) if !model.shows_log_targets() => return,
        CursorStep::By(rows) if rows > 0 => (Event::DownKey, rows.unsigned_abs()),
        CursorStep::By(rows) => (Event::UpKey, rows.unsigned_abs()),
        CursorStep::Pages(count) if count > 0 => (Event::NextPageKey, count.unsigned_abs()),
        CursorStep::Pages(count) => (Event::PrevPageKey, count.unsigned_abs()),
        CursorStep::HalfPages(_) | CursorStep::First | CursorStep::Last => (Event::EscapeKey, 1),
    };
    for _ in 0..times {
        model.log_screen.widget.0.transition(event);
    }
}

/// Shows one more level of the selected log target (`more`), or one fewer.
pub(super) fn change_log_levels(model: &mut Model, more: bool) {
    use tui_logger::TuiWidgetEvent as Event;
    if model.screen == ScreenId::Logs && model.shows_log_targets() {
        model.log_screen.widget.0.transition(if more { Event::RightKey } else { Event::LeftKey });
    }
}

/// Shows a screen, and closes the detail of a stream.
pub(super) fn show(model: &mut Model, screen: ScreenId) {
    model.screen = screen;
    model.detail_screen.open = None;
    model.refresh_rows();
}

/// Shows the screen `offset` tabs to the right of the current one; after the last tab comes the first.
pub(super) fn show_neighbour(model: &mut Model, offset: usize) {
    show(model, ScreenId::ALL[(model.screen.index() + offset) % ScreenId::ALL.len()]);
}

/// Undoes the first of these that applies: the log's filter, a screen other than the streams screen, the filter of
/// the streams table, the marks. Never quits.
pub(super) fn back(model: &mut Model) {
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

/// Opens the detail of the selected stream; unfolds or folds the selected proxy or user.
pub(super) fn open(model: &mut Model) {
    match model.screen {
        ScreenId::Streams => {
            if let Some(id) = model.streams_screen.cursor.selected() {
                model.open_detail(id);
                model.streams_screen.cursor.choose();
            }
        }
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

/// Removes `id` from the list of unfolded objects, or adds it if it is missing: folds or unfolds it.
fn toggle<T: PartialEq>(unfolded: &mut Vec<T>, id: T) {
    match unfolded.iter().position(|known| *known == id) {
        Some(at) => _ = unfolded.remove(at),
        None => unfolded.push(id),
    }
}

/// Lists only the streams that pass this filter.
pub(super) fn set_filter(model: &mut Model, filter: StreamFilter) {
    model.streams_screen.filter = filter;
    model.refresh_rows();
}

/// Sorts the streams table by this key and direction; also while the display is frozen, because sorting does not
/// change its data.
pub(super) fn set_sort(model: &mut Model, sort: Sort) {
    let now = model.live.now;
    model.live.streams.set_sort(sort, now);
    if let Some(frozen) = &mut model.frozen {
        frozen.streams.set_sort(sort, frozen.now);
    }
    model.refresh_rows();
}

/// Sorts the streams table by the next sortable column on the screen, or by the previous one, in the default
/// direction of that column; on the screen of users, those.
pub(super) fn step_sort_key(model: &mut Model, forward: bool) {
    if model.screen == ScreenId::Sessions && model.detail_screen.open.is_none() {
        let sort = model.shown().users.sort().next(forward);
        let now = model.live.now;
        model.live.users.set_sort(sort, now);
        if let Some(frozen) = &mut model.frozen {
            frozen.users.set_sort(sort, frozen.now);
        }
        return model.refresh_rows();
    }
    let by = model.shown().streams.sort().by;
    let by = by.next(&model.visible_sort_keys(), forward);
    set_sort(model, Sort { by, reversed: false });
}

/// Reverses the sort direction of the streams table.
pub(super) fn reverse_sort(model: &mut Model) {
    let Sort { by, reversed } = model.shown().streams.sort();
    set_sort(model, Sort { by, reversed: !reversed });
}

/// Shows or hides ended streams in the streams table.
pub(super) fn toggle_ended(model: &mut Model) {
    model.streams_screen.show_ended = !model.streams_screen.show_ended;
    model.refresh_rows();
}

/// Shows the streams table, filtered to exactly the selected proxy, service or user: commands may follow that act on
/// all listed streams.
pub(super) fn show_streams_of_selected(model: &mut Model) {
    let proxy = |id| format!("proxy={}", filter_value(&model.shown().proxies, id));
    let text = match model.screen {
        ScreenId::Proxies => match model.proxies_screen.cursor.selected() {
            Some(ProxyLine::Proxy(id)) => proxy(id),
            Some(ProxyLine::Channel(id)) => proxy(id.proxy),
            Some(ProxyLine::Service(id)) => match model.shown().services.get(id) {
                Some(service) => format!("service={}", service.key),
                None => return,
            },
            None => return,
        },
        ScreenId::Sessions => match model.sessions_screen.cursor.selected() {
            Some(line) => format!("user={}", line.user()),
            None => return,
        },
        ScreenId::Streams | ScreenId::Logs => return,
    };
    model.streams_screen.cursor = Cursor::default();
    show(model, ScreenId::Streams);
    set_filter(model, StreamFilter::parse(&text).unwrap_or_default());
}

/// Returns what a filter term compares a proxy with: its name, which it keeps when it reconnects; its id where another
/// proxy has the same name, or the name cannot be quoted.
fn filter_value(proxies: &ProxyRows, id: ProxyId) -> String {
    let name = proxies.get(id).filter(|proxy| proxy.label == proxy.name && !proxy.name.contains('"'));
    match name.map(|proxy| proxy.name.as_str()) {
        None => id.to_string(),
        Some(name) if name.contains(char::is_whitespace) => format!("\"{name}\""),
        Some(name) => name.to_owned(),
    }
}

/// Shows the log screen, filtered to the records that name the selected stream, user, proxy, channel or service.
pub(super) fn show_log_of_selected(model: &mut Model) {
    if let Some(name) = selection::name(model) {
        show(model, ScreenId::Logs);
        model.log_screen.filter_by_name(name);
    }
}

/// Opens the window with the command that joins another machine as a proxy; shows a notice where it is found if the
/// host of the cockpit does not know it.
pub(super) fn show_join_command(model: &mut Model) {
    if model.labels.join.is_some() {
        model.overlay = Some(Overlay::AddProxy { is_secret_shown: false });
        return;
    }
    let why = match model.labels.role {
        Role::Replay => "a recording has no join command: it does not contain the token",
        Role::Attached if model.labels.is_of_proxy() => {
            "this is a proxy: the log of a server has a join command"
        }
        Role::Attached => "the log of the server has the join command; attached cockpits get no token",
        Role::Server => "no join command available",
    };
    model.notify(NoticeLevel::Info, why);
}
