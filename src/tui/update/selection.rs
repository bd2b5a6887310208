//! What the marks or the cursor select: the streams, user, proxy, service or limit target that an intent acts on. Where
//! nothing is selected, a notice says so.

use crate::{
    control::LimitScope,
    ids::{ProxyId, ServiceKey, UserChannelId},
    tui::model::{
        KillTarget, LimitTarget, Model, NoticeLevel, ProxyLine, ProxyRow, RowId, ScreenId, StreamRow,
        UserLine,
    },
};

/// Whether intents act on the marked streams: marks are made in the table of streams and apply there only.
pub(super) fn uses_marks(model: &Model) -> bool {
    !model.streams_screen.marks.is_empty()
        && model.screen == ScreenId::Streams
        && model.detail_screen.open.is_none()
}

/// The marked streams, else the selected one if it is open. Notifies the operator where there is none.
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
    model.notify(NoticeLevel::Info, format!("{key} has already ended"));
    Vec::new()
}

/// Those of `rows` that can be killed: open streams without a pending kill.
pub(super) fn kill_targets(model: &Model, rows: &[RowId]) -> Vec<KillTarget> {
    let target = |id: &RowId| {
        let row = model.live.streams.get(*id).filter(|row| row.is_live() && !row.kill_pending)?;
        Some(KillTarget { row: *id, key: row.key })
    };
    rows.iter().filter_map(target).collect()
}

/// The selected user, or the user of the selected stream.
pub(super) fn user(model: &Model) -> Option<UserChannelId> {
    match model.screen {
        ScreenId::Sessions if model.detail_screen.open.is_none() => {
            model.sessions_screen.cursor.selected().map(UserLine::user)
        }
        _ => model.selected().map(|(_, row)| row.key.user),
    }
}

/// Whether one stream of an unfolded user is selected on the sessions screen, not the user itself.
pub(super) fn is_stream_of_user(model: &Model) -> bool {
    model.screen == ScreenId::Sessions
        && model.detail_screen.open.is_none()
        && matches!(model.sessions_screen.cursor.selected(), Some(UserLine::Stream(..)))
}

/// The selected proxy, or the proxy of the selected stream; also one that has disconnected.
pub(super) fn proxy(model: &Model) -> Option<ProxyId> {
    match (model.screen, model.proxies_screen.cursor.selected()) {
        (ScreenId::Proxies, Some(ProxyLine::Proxy(id))) => Some(id),
        (ScreenId::Proxies, Some(ProxyLine::Channel(id))) => Some(id.proxy),
        (ScreenId::Proxies, _) => None,
        _ => model.selected().and_then(|(_, row)| row.proxy),
    }
}

/// The selected proxy if it is connected. Notifies the operator where it is not.
pub(super) fn connected_proxy(model: &mut Model) -> Option<&ProxyRow> {
    let Some(id) = proxy(model) else {
        model.notify(NoticeLevel::Info, "no proxy selected");
        return None;
    };
    if model.live.proxies.connected().all(|proxy| proxy.id != id) {
        let name = model.live.proxies.name(id);
        model.notify(NoticeLevel::Info, format!("{name} has already disconnected"));
        return None;
    }
    model.live.proxies.get(id)
}

/// The selected service, else the only service of the selected proxy. Notifies the operator where there is none.
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

/// What a rate limit would apply to: the marked streams, or the selected stream, user, proxy or service. Notifies the
/// operator where nothing is selected.
pub(super) fn limit_target(model: &mut Model) -> Option<LimitTarget> {
    let line = model.proxies_screen.cursor.selected();
    let scope = match (model.screen, &model.detail_screen.open) {
        (ScreenId::Proxies, None) => match line {
            Some(ProxyLine::Service(_)) => LimitScope::Service(service(model)?),
            _ => LimitScope::Proxy(connected_proxy(model)?.id),
        },
        (ScreenId::Sessions, None) if !is_stream_of_user(model) => match user(model) {
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

/// The name of the selected object: a stream key, an id, or a service key.
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
