//! What the marks or the cursor select: the streams, user, proxy, service or limit target that an intent acts on. Where
//! nothing is selected, a notice says so.

use crate::{
    control::LimitScope,
    ids::{ProxyId, ServiceKey, StreamKey, UserChannelId},
    tui::model::{
        KillTarget, LimitTarget, Model, NoticeLevel, ProxyLine, ProxyRow, RowId, ScreenId, StreamRow,
        UserLine,
    },
};

/// Returns whether intents act on the marked streams instead of the selected one: some are marked, and the streams
/// table, where marks are made, is on the screen.
pub(super) fn uses_marks(model: &Model) -> bool {
    !model.streams_screen.marks.is_empty()
        && model.screen == ScreenId::Streams
        && model.detail_screen.open.is_none()
}

/// Returns the marked streams, else the selected one if it is open, and makes the cursor stay with its row. Shows a
/// notice if there is no such stream.
pub(super) fn streams(model: &mut Model) -> Vec<RowId> {
    model.streams_screen.cursor.choose();
    if uses_marks(model) {
        return model.streams_screen.marks.clone();
    }
    let Some((id, row)) = model.selected() else {
        model.notify(NoticeLevel::Info, "no stream selected");
        return Vec::new();
    };
    let key = row.key;
    if model.live.streams.get(id).is_some_and(StreamRow::is_live) {
        return vec![id];
    }
    say_ended(model, key);
    Vec::new()
}

/// Says in a notice that the selected stream has ended, and selects the next open one, so that the key can be pressed
/// again.
pub(super) fn say_ended(model: &mut Model, key: StreamKey) {
    let moved = model.detail_screen.open.is_none() && model.leave_ended_row();
    if moved {
        // The second press of a key must not act on a row that nobody has read yet.
        model.selection_moved_at = Some(model.now);
    }
    let next = model.selected().filter(|_| moved).map(|(_, row)| row.key);
    let next = next.map(|next| format!("; {next} is selected now")).unwrap_or_default();
    model.notify(NoticeLevel::Info, format!("{key} has already ended{next}"));
}

/// Returns whether a key that acts without a question must be refused, because the selection has just moved by itself;
/// a notice says so.
pub(super) fn has_just_moved(model: &mut Model) -> bool {
    if uses_marks(model) || !model.has_selection_just_moved() {
        return false;
    }
    let name = name(model).unwrap_or_default();
    model.notify(
        NoticeLevel::Warning,
        format!("ignored: the selection has just moved to {name}; press it again"),
    );
    true
}

/// Returns those streams of `rows` that can be killed: open ones without a pending kill.
pub(super) fn kill_targets(model: &Model, rows: &[RowId]) -> Vec<KillTarget> {
    let target = |id: &RowId| {
        let row = model.live.streams.get(*id).filter(|row| row.is_live() && !row.kill_pending)?;
        Some(KillTarget { row: *id, key: row.key })
    };
    rows.iter().filter_map(target).collect()
}

/// Returns the selected user, or the user of the selected stream; `None` if neither is selected.
pub(super) fn user(model: &Model) -> Option<UserChannelId> {
    match model.screen {
        ScreenId::Sessions if model.detail_screen.open.is_none() => {
            model.sessions_screen.cursor.selected().map(UserLine::user)
        }
        _ => model.selected().map(|(_, row)| row.key.user),
    }
}

/// Returns whether the cursor of the sessions screen is on a stream below an unfolded user, not on a user.
pub(super) fn is_stream_of_user(model: &Model) -> bool {
    model.screen == ScreenId::Sessions
        && model.detail_screen.open.is_none()
        && matches!(model.sessions_screen.cursor.selected(), Some(UserLine::Stream(..)))
}

/// Returns the selected proxy, or the proxy of the selected channel or stream, also if it has disconnected; `None` if
/// none of them is selected.
pub(super) fn proxy(model: &Model) -> Option<ProxyId> {
    match (model.screen, model.proxies_screen.cursor.selected()) {
        (ScreenId::Proxies, Some(ProxyLine::Proxy(id))) => Some(id),
        (ScreenId::Proxies, Some(ProxyLine::Channel(id))) => Some(id.proxy),
        (ScreenId::Proxies, _) => None,
        _ => model.selected().and_then(|(_, row)| row.proxy),
    }
}

/// Returns the selected proxy, or the proxy of the selected channel or stream, if it is connected. Shows a notice if
/// it is not or none is selected.
pub(super) fn connected_proxy(model: &mut Model) -> Option<&ProxyRow> {
    let Some(id) = proxy(model) else {
        model.notify(NoticeLevel::Info, "no proxy selected");
        return None;
    };
    if model.live.proxies.connected().all(|proxy| proxy.id != id) {
        let name = model.live.proxies.short_name(id);
        model.notify(NoticeLevel::Info, format!("{name} has already disconnected"));
        return None;
    }
    model.live.proxies.get(id)
}

/// Returns the selected service, else the only service of the selected proxy. Shows a notice if there is none, if
/// there are several, or if its port has closed.
pub(super) fn service(model: &mut Model) -> Option<ServiceKey> {
    let live = &model.live;
    if let Some(ProxyLine::Service(id)) = model.proxies_screen.cursor.selected() {
        // A frozen display may show a service whose port has closed since.
        let service = live.services.get(id).filter(|service| service.closed.is_none());
        let key = service.map(|service| service.key.clone());
        if key.is_none() {
            model.notify(NoticeLevel::Info, "the port of this service is closed");
        }
        return key;
    }
    let proxy = proxy(model).and_then(|id| live.proxies.get(id));
    match proxy.map_or(&[][..], |proxy| &proxy.services) {
        [only] => Some(only.clone()),
        [] => {
            model.notify(NoticeLevel::Info, "no service selected");
            None
        }
        several => {
            let text = format!("the proxy serves {} services: select one of them below", several.len());
            model.notify(NoticeLevel::Info, text);
            None
        }
    }
}

/// Returns what a rate limit would apply to: the marked streams, or the selected stream, user, proxy or service.
/// Shows a notice if nothing is selected.
pub(super) fn limit_target(model: &mut Model) -> Option<LimitTarget> {
    let line = model.proxies_screen.cursor.selected();
    let scope = match (model.screen, &model.detail_screen.open) {
        (ScreenId::Proxies, None) => match line {
            Some(ProxyLine::Service(_)) => LimitScope::Service(service(model)?),
            _ => LimitScope::Proxy(connected_proxy(model)?.id),
        },
        (ScreenId::Sessions, None) if !is_stream_of_user(model) => match user(model) {
            Some(user) if model.live.users.get(user).is_some_and(|user| user.left.is_some()) => {
                model.notify(NoticeLevel::Info, format!("user {user} has left: it has no limits"));
                return None;
            }
            Some(user) => LimitScope::User(user),
            None => {
                model.notify(NoticeLevel::Info, "no user selected");
                return None;
            }
        },
        _ => {
            let rows = streams(model);
            return (!rows.is_empty()).then_some(LimitTarget::Streams(rows));
        }
    };
    Some(LimitTarget::Scope(scope))
}

/// Returns the name of the selected object, as logs and commands write it: a stream key, the id of a user, proxy or
/// channel, or a service key.
pub(super) fn name(model: &Model) -> Option<String> {
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
