//! Acts on proxies and services: kick, drain, weight, policy.

use super::{batch, dialog, prompt, selection};
use crate::{
    control::Command,
    ids::{Policy, ProxyId, ServiceKey},
    tui::{
        intent::DrainChange,
        model::{Confirmation, Model, NoticeLevel, PromptKind},
        msg::Effect,
    },
};

/// Opens the dialog that confirms closing all channels of the selected proxy, or of the proxy of the selected stream.
pub(super) fn ask_to_kick(model: &mut Model) {
    model.streams_screen.cursor.choose();
    let Some(proxy) = selection::connected_proxy(model) else { return };
    let question = Confirmation::Kick { proxy: proxy.id, streams: proxy.streams };
    dialog::open(model, question);
}

/// Returns the effects that make the server close all channels of this proxy, which may reconnect.
pub(super) fn kick(model: &mut Model, proxy: ProxyId) -> Vec<Effect> {
    let name = model.live.proxies.short_name(proxy);
    batch::send_one(model, name, "kicked", Command::KickProxy(proxy))
}

/// Starts or stops draining the selected proxy: a draining proxy gets no new streams. Changes its row ahead of the
/// server's reply.
pub(super) fn drain(model: &mut Model, change: DrainChange) -> Vec<Effect> {
    let Some(proxy) = selection::connected_proxy(model) else { return Vec::new() };
    let (id, is_draining) = (proxy.id, proxy.draining);
    let drain = match change {
        DrainChange::Start => true,
        DrainChange::Stop => false,
        DrainChange::Toggle => !is_draining,
    };
    let name = model.live.proxies.short_name(id);
    if drain == is_draining {
        let text = if drain { "is already draining" } else { "is not draining" };
        model.notify(NoticeLevel::Info, format!("{name} {text}"));
        return Vec::new();
    }
    // Ahead of the server's reply, so that the next key starts from the new state.
    if let Some(proxy) = model.live.proxies.get_mut(id) {
        proxy.draining = drain;
    }
    let (verb, command) = match drain {
        true => ("drained", Command::DrainProxy(id)),
        false => ("undrained", Command::UndrainProxy(id)),
    };
    batch::send_one(model, name, verb, command)
}

/// Opens the prompt for the weight of the selected proxy. It starts empty: a digit typed after the present weight
/// would make another number of it.
pub(super) fn ask_for_weight(model: &mut Model) {
    let Some(proxy) = selection::connected_proxy(model) else { return };
    let kind = PromptKind::Weight(proxy.id);
    prompt::open(model, kind, String::new());
}

/// Returns the effects that set the weight of `proxy` for new streams; without one, of the selected proxy.
pub(super) fn set_weight(model: &mut Model, proxy: Option<ProxyId>, weight: u32) -> Vec<Effect> {
    let proxy = proxy.or_else(|| selection::connected_proxy(model).map(|proxy| proxy.id));
    let Some(proxy) = proxy else { return Vec::new() };
    let name = model.live.proxies.short_name(proxy);
    batch::send_one(model, name, "changed", Command::SetWeight(proxy, weight))
}

/// Opens the prompt for the policy of the selected service, or of the only service of the selected proxy.
pub(super) fn ask_for_policy(model: &mut Model) {
    if let Some(service) = selection::service(model) {
        prompt::open(model, PromptKind::Policy(service), String::new());
    }
}

/// Returns the effects that set the balancing policy of `service`; without one, of the selected service.
pub(super) fn set_policy(model: &mut Model, service: Option<ServiceKey>, policy: Policy) -> Vec<Effect> {
    let Some(service) = service.or_else(|| selection::service(model)) else { return Vec::new() };
    let name = format!("service {service}");
    batch::send_one(model, name, "changed", Command::SetPolicy(service, policy))
}
