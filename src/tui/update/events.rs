//! Applies lifecycle events to the model. Figures come with samples, not with events.

use std::net::IpAddr;

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

/// Returns the text about a refused client for a section title: its address and the reason, which may quote a peer.
fn refusal(addr: IpAddr, reason: &str) -> String {
    let addr = addr.to_canonical();
    // The reason may name the address itself.
    let reason = reason.strip_prefix(&format!("{addr} ")).unwrap_or(reason);
    format::truncate(&clean(&format!("{addr} {reason}"), MAX_NOTICE_WIDTH), MAX_NOTICE_WIDTH)
}

/// Applies one lifecycle event of the server to the rows. Events that change nothing on the screens are only logged,
/// by the code that emits them.
pub(super) fn apply(model: &mut Model, event: &EventKind) {
    let live = &mut model.live;
    let now = live.now;
    match event {
        EventKind::StreamOpened { key, addr, service } => {
            live.streams.apply_opened(*key, *addr, service, now)
        }
        EventKind::StreamAssigned { key, proxy, .. } => live.streams.apply_assigned(*key, *proxy),
        EventKind::StreamEnded { key, reason, shortfall, down, up, content, .. } => {
            live.streams.apply_ended(*key, (reason, *shortfall), (*down, *up), content.as_ref(), now);
        }
        EventKind::ProxyDisconnected { proxy, reason, .. }
        | EventKind::ServerDisconnected { link: proxy, reason, .. } => {
            live.proxies.mark_disconnected(*proxy, reason, now)
        }
        EventKind::ProxyRegistered { proxy, .. } => live.proxies.registered(*proxy),
        EventKind::RegistrationRefused { proxy, name, reason } => {
            live.proxies.registration_refused(*proxy, reason);
            // The event names a proxy that no snapshot has shown yet.
            let name = match live.proxies.get(*proxy) {
                None if !name.is_empty() => name.to_string(),
                _ => live.proxies.short_name(*proxy),
            };
            let text = format!("registration of {name} refused: {reason}");
            let text = format::truncate(&clean(&text, MAX_NOTICE_WIDTH), MAX_NOTICE_WIDTH);
            model.notify(NoticeLevel::Warning, text);
        }
        // Not as a notice: a flood would hide every other one.
        EventKind::UserRejected { addr, reason, .. } => {
            model.server_status.last_refused_user = Some(refusal(addr.ip(), reason));
        }
        EventKind::HandshakeFailed { addr, reason, .. } => {
            model.server_status.last_failed_handshake = Some(refusal(addr.ip(), reason));
        }
        EventKind::ServiceClosed { service } => {
            live.services.mark_closed(service, now);
            // A draining server closes all ports, as the operator asked.
            if !model.server_status.is_draining {
                let text = format!("port {} closed: {}", service.port, model.labels.why_closed());
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
