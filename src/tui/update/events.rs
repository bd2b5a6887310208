//! Applies lifecycle events to the model. Figures come with samples, not with events.

use crate::{
    ids::clean,
    telemetry::EventKind,
    tui::{
        format,
        model::{Model, NoticeLevel},
    },
};

/// The longest text of a notice about a refused registration, in cells: the reason may quote the proxy.
const MAX_NOTICE_WIDTH: usize = 200;

/// Applies one lifecycle event of the server to the rows. Events that change nothing on the screens are only logged,
/// by the code that emits them.
pub(super) fn apply(model: &mut Model, event: &EventKind) {
    let live = &mut model.live;
    let now = live.now;
    match event {
        EventKind::StreamOpened { key, addr, service } => {
            live.streams.apply_opened(*key, *addr, service, now)
        }
        EventKind::StreamAssigned { key, proxy } => live.streams.apply_assigned(*key, *proxy),
        EventKind::StreamEnded { key, reason, down, up, content, .. } => {
            live.streams.apply_ended(*key, reason, (*down, *up), content.as_ref(), now);
        }
        EventKind::ProxyDisconnected { proxy, reason, .. } => {
            live.proxies.mark_disconnected(*proxy, reason, now)
        }
        EventKind::ProxyRegistered { proxy, .. } => live.proxies.registered(*proxy),
        EventKind::RegistrationRefused { proxy, reason } => {
            live.proxies.registration_refused(*proxy, reason);
            let text = format!("registration of {} refused: {reason}", live.proxies.name(*proxy));
            let text = format::truncate(&clean(&text, MAX_NOTICE_WIDTH), MAX_NOTICE_WIDTH);
            model.notify(NoticeLevel::Warning, text);
        }
        EventKind::ServiceClosed { service } => {
            live.services.mark_closed(service, now);
            // A draining server closes all ports, as the operator asked.
            if !model.server_status.is_draining {
                let text = format!("port {} closed: no proxy serves it", service.port);
                model.notify(NoticeLevel::Warning, text);
            }
        }
        EventKind::DrainStarted { .. } => model.server_status.is_draining = true,
        EventKind::DrainDeadlineSet { within, .. } => {
            model.server_status.drain_deadline = now.checked_add(*within);
        }
        _ => {}
    }
}
