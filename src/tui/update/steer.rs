//! Limits, weights, policies, draining: from a key or a command to an order.

use super::{
    orders::{order_each, selected_proxy, targets},
    prompt,
    screens::selected_user,
};
use crate::{
    control::{Command, LimitScope, MAX_WEIGHT},
    ids::{Direction, Policy, ProxyId, Rate, RateLimits, ServiceKey},
    tui::{
        model::{LimitTarget, Model, NoticeLevel, PromptKind, ProxyLine, ProxyRow, ScreenId, UserLine},
        msg::Effect,
    },
};

/// What to do about something that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainChange {
    Start,
    Stop,
    /// Whichever it is not.
    Toggle,
}

/// What is wrong with an answer, for the one who typed it.
type InputError = String;

/// Asks how fast the selection may go.
pub(super) fn ask_limit(model: &mut Model) {
    let Some(limited) = selected_limited(model) else { return };
    let text = current(model, &limited).map_or(String::new(), written);
    prompt::ask(model, PromptKind::Limit(limited), text);
}

/// Asks for the weight of the selected proxy.
pub(super) fn ask_weight(model: &mut Model) {
    let Some(proxy) = live_proxy(model, "weigh") else { return };
    let asked = PromptKind::Weight(proxy.id);
    // Empty: a digit typed behind the weight that it has would make another one of it.
    prompt::ask(model, asked, String::new());
}

/// Asks for the policy of the selected service, or of the one that the selected proxy serves.
pub(super) fn ask_policy(model: &mut Model) {
    if let Some(service) = selected_service(model) {
        prompt::ask(model, PromptKind::Policy(service), String::new());
    }
}

/// What was typed for one of these questions; nothing where the question was another one.
pub(super) fn answer(
    model: &mut Model,
    asked: &PromptKind,
    text: &str,
) -> Option<Result<Vec<Effect>, InputError>> {
    Some(match asked {
        // Nothing typed is nothing wanted.
        PromptKind::Limit(_) | PromptKind::Weight(_) | PromptKind::Policy(_) if text.is_empty() => {
            Ok(Vec::new())
        }
        PromptKind::Limit(limited) => limits(text).map(|changes| limit(model, limited, &changes)),
        PromptKind::Weight(proxy) => weight(text).map(|weight| weigh(model, *proxy, weight)),
        PromptKind::Policy(service) => policy(text).map(|policy| give_policy(model, service, policy)),
        _ => return None,
    })
}

/// The same, by name, for the selection.
pub(super) fn by_name(model: &mut Model, name: &str, word: &str) -> Vec<Effect> {
    let asked = match name {
        "limit" => selected_limited(model).map(PromptKind::Limit),
        "weight" => live_proxy(model, "weigh").map(|proxy| PromptKind::Weight(proxy.id)),
        _ => selected_service(model).map(PromptKind::Policy),
    };
    match asked.and_then(|asked| answer(model, &asked, word)) {
        Some(Ok(effects)) => effects,
        Some(Err(why)) => {
            model.notify(NoticeLevel::Warning, why);
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// Gives the selected proxy no new streams, or gives it some again.
pub(super) fn drain(model: &mut Model, turn: DrainChange) -> Vec<Effect> {
    let Some(proxy) = live_proxy(model, "drain") else { return Vec::new() };
    let id = proxy.id;
    let drain = match turn {
        DrainChange::Start => true,
        DrainChange::Stop => false,
        DrainChange::Toggle => !proxy.draining,
    };
    if drain == proxy.draining {
        let name = model.live.proxies.name(id);
        model.notify(
            NoticeLevel::Info,
            format!("{name} {}", if drain { "drains already" } else { "does not drain" }),
        );
        return Vec::new();
    }
    // Ahead of the server, so that the next key builds on this one.
    if let Some(proxy) = model.live.proxies.get_mut(id) {
        proxy.draining = drain;
    }
    let (verb, command) = match drain {
        true => ("drained", Command::DrainProxy(id)),
        false => ("undrained", Command::UndrainProxy(id)),
    };
    let name = model.live.proxies.name(id);
    super::orders::one(model, name, verb, command)
}

/// What a limit would be for: the marked streams, or whatever is selected. Says why where there is nothing.
fn selected_limited(model: &mut Model) -> Option<LimitTarget> {
    let line = model.proxies_screen.cursor.selected();
    let scope = match (model.screen, &model.detail_screen.open) {
        (ScreenId::Proxies, None) => match line {
            Some(ProxyLine::Service(_)) => LimitScope::Service(selected_service(model)?),
            _ => LimitScope::Proxy(live_proxy(model, "limit")?.id),
        },
        (ScreenId::Sessions, None) => match model.sessions_screen.cursor.selected() {
            Some(UserLine::Stream(..)) => return streams(model),
            _ => match selected_user(model) {
                Some(user) => LimitScope::User(user),
                None => {
                    model.notify(NoticeLevel::Info, "no user to limit");
                    return None;
                }
            },
        },
        _ => return streams(model),
    };
    Some(LimitTarget::Scope(scope))
}

fn streams(model: &mut Model) -> Option<LimitTarget> {
    let targets = targets(model, "limit");
    (!targets.is_empty()).then_some(LimitTarget::Streams(targets))
}

/// The selected proxy, if it is still there. Says why where there is none.
fn live_proxy<'a>(model: &'a mut Model, to: &str) -> Option<&'a ProxyRow> {
    let Some(id) = selected_proxy(model) else {
        model.notify(NoticeLevel::Info, format!("no proxy to {to}"));
        return None;
    };
    if model.live.proxies.up().all(|proxy| proxy.id != id) {
        let name = model.live.proxies.name(id);
        model.notify(NoticeLevel::Info, format!("{name} is gone already"));
        return None;
    }
    model.live.proxies.get(id)
}

/// The selected service, or the only one of the selected proxy. Says why where there is none.
fn selected_service(model: &mut Model) -> Option<ServiceKey> {
    let live = &model.live;
    if let Some(ProxyLine::Service(id)) = model.proxies_screen.cursor.selected() {
        // A stopped display may show one that has closed.
        let service = live.services.get(id).filter(|service| service.closed.is_none());
        let key = service.map(|service| service.key.clone());
        if key.is_none() {
            model.notify(NoticeLevel::Info, "its port is closed");
        }
        return key;
    }
    let proxy = selected_proxy(model).and_then(|id| live.proxies.get(id));
    match proxy.map_or(&[][..], |proxy| &proxy.services) {
        [only] => Some(only.clone()),
        [] => {
            model.notify(NoticeLevel::Info, "no service is selected");
            None
        }
        many => {
            let text = format!("it serves {} services: select one of them, below", many.len());
            model.notify(NoticeLevel::Info, text);
            None
        }
    }
}

/// The limits that hold now; nothing where several streams are meant.
fn current(model: &Model, limited: &LimitTarget) -> Option<RateLimits> {
    let live = &model.live;
    match limited {
        LimitTarget::Streams(rows) => match rows.as_slice() {
            [only] => live.streams.get(*only).map(|row| row.limits),
            _ => None,
        },
        LimitTarget::Scope(LimitScope::Stream(_)) => None,
        LimitTarget::Scope(LimitScope::User(user)) => live.users.get(*user).map(|user| user.limits),
        LimitTarget::Scope(LimitScope::Proxy(proxy)) => live.proxies.get(*proxy).map(|proxy| proxy.limits),
        LimitTarget::Scope(LimitScope::Service(service)) => {
            live.services.find(service).map(|known| known.limits)
        }
    }
}

/// Limits as [`limits`] reads them.
fn written(limits: RateLimits) -> String {
    let words = [Direction::Down, Direction::Up]
        .into_iter()
        .filter_map(|direction| Some(format!("{direction} {}", limits.of(direction)?)));
    words.collect::<Vec<_>>().join(" ")
}

type Change = (Direction, Option<Rate>);

/// Reads `down 10M`, `up 500K down off`, `off`.
fn limits(text: &str) -> Result<Vec<Change>, InputError> {
    if text == "off" {
        return Ok(vec![(Direction::Down, None), (Direction::Up, None)]);
    }
    let mut changes: Vec<Change> = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let direction = match word {
            "down" => Direction::Down,
            "up" => Direction::Up,
            _ => return Err("which way? down 10M, up 500K, or off".to_owned()),
        };
        let rate = match words.next() {
            None => return Err(format!("how fast? {word} 10M, or {word} off")),
            Some("off") => None,
            Some(rate) => Some(rate.trim_end_matches("/s").parse::<Rate>().map_err(|why| why.to_string())?),
        };
        changes.retain(|(known, _)| *known != direction);
        changes.push((direction, rate));
    }
    Ok(changes)
}

fn limit(model: &mut Model, limited: &LimitTarget, changes: &[Change]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for &(direction, rate) in changes {
        // A word for all that is off asks for nothing where nothing was on.
        if rate.is_none() && current(model, limited).is_some_and(|limits| limits.of(direction).is_none()) {
            continue;
        }
        effects.extend(match limited {
            LimitTarget::Streams(rows) => {
                order_each(model, rows, "limited", "has that limit already", |row| {
                    let limit = match direction {
                        Direction::Down => &mut row.limits.down,
                        Direction::Up => &mut row.limits.up,
                    };
                    let changed = *limit != rate;
                    *limit = rate;
                    changed.then_some(Command::SetLimit(LimitScope::Stream(row.key), direction, rate))
                })
            }
            LimitTarget::Scope(scope) => {
                let command = Command::SetLimit(scope.clone(), direction, rate);
                super::orders::one(model, name(model, scope), "limited", command)
            }
        });
    }
    if effects.is_empty() && changes.iter().all(|(_, rate)| rate.is_none()) {
        model.notify(NoticeLevel::Info, "there was no limit");
    }
    effects
}

/// What the operator calls it.
fn name(model: &Model, scope: &LimitScope) -> String {
    match scope {
        LimitScope::Proxy(id) => model.live.proxies.name(*id),
        other => other.to_string(),
    }
}

fn weight(text: &str) -> Result<u32, InputError> {
    let weight = text.parse().ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    weight.ok_or_else(|| format!("a weight is a number from 1 to {MAX_WEIGHT}"))
}

fn weigh(model: &mut Model, proxy: ProxyId, weight: u32) -> Vec<Effect> {
    let name = model.live.proxies.name(proxy);
    super::orders::one(model, name, "weighed", Command::SetWeight(proxy, weight))
}

/// A policy by its name, or by as much of it as tells which one is meant.
fn policy(text: &str) -> Result<Policy, InputError> {
    let mut fitting = Policy::ALL.into_iter().filter(|policy| policy.to_string().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        _ => Err("a policy is round-robin, weighted, least-streams or peak-ewma".to_owned()),
    }
}

fn give_policy(model: &mut Model, service: &ServiceKey, policy: Policy) -> Vec<Effect> {
    let command = Command::SetPolicy(service.clone(), policy);
    super::orders::one(model, format!("service {service}"), "changed", command)
}
