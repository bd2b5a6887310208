//! Sets rate limits of streams, users, proxies and services.

use super::{batch, prompt, selection};
use crate::{
    control::{Command, LimitChange, LimitScope},
    ids::{Direction, RateLimits},
    tui::{
        model::{LimitTarget, Model, NoticeLevel, PromptKind},
        msg::Effect,
    },
};

/// Opens the prompt for a rate limit of the marked streams, or of the selected stream, user, proxy or service. It
/// starts empty; `↑` recalls the limit in effect.
pub(super) fn ask(model: &mut Model) {
    let Some(target) = selection::limit_target(model) else { return };
    let text = current_limits(model, &target).map_or(String::new(), format_limits);
    let kind = PromptKind::Limit(target);
    model.line_history.push(&kind, &text);
    prompt::open(model, kind, String::new());
}

/// Returns the effects that set or remove rate limits of `target`; without one, of the selected object. A removal in
/// a direction without a limit is not sent.
pub(super) fn set(model: &mut Model, target: Option<LimitTarget>, changes: &[LimitChange]) -> Vec<Effect> {
    let Some(target) = target.or_else(|| selection::limit_target(model)) else { return Vec::new() };
    if let Some(effects) = set_both_alike(model, &target, changes) {
        return effects;
    }
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
                batch::send_one(model, scope_name(model, scope), "limited", command)
            }
        });
    }
    if effects.is_empty() && changes.iter().all(|change| change.rate.is_none()) {
        model.notify(NoticeLevel::Info, "no rate limit to remove: none was set");
    }
    effects
}

/// Returns the effects that change the limits of both directions of one object to the same rate, with one notice about
/// both; `None` if the changes are others, or one of them changes nothing.
fn set_both_alike(model: &mut Model, target: &LimitTarget, changes: &[LimitChange]) -> Option<Vec<Effect>> {
    let [LimitChange { rate, .. }, other] = changes else { return None };
    let before = current_limits(model, target)?;
    let changes_both = Direction::ALL.into_iter().all(|direction| before.of(direction) != *rate);
    if other.rate != *rate || !changes_both {
        return None;
    }
    let (name, scope, row) = match target {
        LimitTarget::Scope(scope) => (scope_name(model, scope), scope.clone(), None),
        LimitTarget::Streams(rows) => {
            let id = *rows.first()?;
            let row = model.live.streams.get_mut(id).filter(|row| row.is_live())?;
            row.limits = RateLimits { down: *rate, up: *rate };
            (row.key.to_string(), LimitScope::Stream(row.key), Some(id))
        }
    };
    let commands =
        changes.iter().map(|change| Command::SetLimit(scope.clone(), change.direction, change.rate));
    Some(batch::send_several(model, name, "limited", commands.collect(), row))
}

/// Returns the rate limits of the target as the last snapshot had them; `None` for several streams, and for an object
/// that no longer exists.
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

/// Formats rate limits as text that [`parse_limits`](crate::control::parse_limits) understands: `down 10M
/// up 500K`.
fn format_limits(limits: RateLimits) -> String {
    let words = Direction::ALL
        .into_iter()
        .filter_map(|direction| Some(format!("{direction} {}", limits.of(direction)?)));
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the name by which notices call the object that a rate limit applies to.
fn scope_name(model: &Model, scope: &LimitScope) -> String {
    match scope {
        LimitScope::Proxy(id) => model.live.proxies.short_name(*id),
        other => other.to_string(),
    }
}
