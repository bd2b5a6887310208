//! Sets rate limits of streams, users, proxies and services.

use super::{batch, prompt, selection};
use crate::{
    control::{Command, LimitScope},
    ids::{Direction, RateLimits},
    tui::{
        intent::LimitChange,
        model::{LimitTarget, Model, NoticeLevel, PromptKind},
        msg::Effect,
    },
};

/// Opens the prompt for a rate limit of what is selected, with the present limits as its text.
pub(super) fn ask(model: &mut Model) {
    let Some(target) = selection::limit_target(model) else { return };
    let text = current_limits(model, &target).map_or(String::new(), to_text);
    prompt::open(model, PromptKind::Limit(target), text);
}

/// Sets or removes rate limits of the target, or of what is selected.
pub(super) fn set(model: &mut Model, target: Option<LimitTarget>, changes: &[LimitChange]) -> Vec<Effect> {
    let Some(target) = target.or_else(|| selection::limit_target(model)) else { return Vec::new() };
    let mut effects = Vec::new();
    for &LimitChange { direction, rate } in changes {
        // `off` names both directions: nothing is sent for one that has no limit.
        let is_unlimited = |limits: RateLimits| limits.of(direction).is_none();
        if rate.is_none() && current_limits(model, &target).is_some_and(is_unlimited) {
            continue;
        }
        effects.extend(match &target {
            LimitTarget::Streams(rows) => {
                batch::send_for_each(model, rows, "limited", "already has this limit", |row| {
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
                batch::send_one(model, name_of(model, scope), "limited", command)
            }
        });
    }
    if effects.is_empty() && changes.iter().all(|change| change.rate.is_none()) {
        model.notify(NoticeLevel::Info, "no limit was set");
    }
    effects
}

/// The limits of the target as last sampled; `None` for several streams.
fn current_limits(model: &Model, target: &LimitTarget) -> Option<RateLimits> {
    let live = &model.live;
    match target {
        LimitTarget::Streams(rows) => match rows.as_slice() {
            [only] => live.streams.get(*only).map(|row| row.limits),
            _ => None,
        },
        LimitTarget::Scope(LimitScope::Stream(_)) => None,
        LimitTarget::Scope(LimitScope::User(user)) => live.users.get(*user).map(|user| user.limits),
        LimitTarget::Scope(LimitScope::Proxy(proxy)) => live.proxies.get(*proxy).map(|proxy| proxy.limits),
        LimitTarget::Scope(LimitScope::Service(key)) => live.services.find(key).map(|known| known.limits),
    }
}

/// Limits as text that [`parse_limits`](crate::tui::command_line::parse_limits) understands.
fn to_text(limits: RateLimits) -> String {
    let words = [Direction::Down, Direction::Up]
        .into_iter()
        .filter_map(|direction| Some(format!("{direction} {}", limits.of(direction)?)));
    words.collect::<Vec<_>>().join(" ")
}

/// What notices call the object of a limit.
fn name_of(model: &Model, scope: &LimitScope) -> String {
    match scope {
        LimitScope::Proxy(id) => model.live.proxies.name(*id),
        other => other.to_string(),
    }
}
