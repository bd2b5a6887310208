//! Formats rate limits.

use crate::{
    ids::{Direction, Rate, RateLimits},
    tui::format,
};

/// Formats the limits that are set, in bytes per second and at most 13 cells: `↓10.0M ↑500K`.
pub(super) fn text(limits: RateLimits) -> String {
    let one = |(direction, arrow)| {
        let rate: Rate = limits.of(direction)?;
        Some(format!("{arrow}{}", format::bytes(rate.bytes_per_second())))
    };
    [(Direction::Down, '↓'), (Direction::Up, '↑')].into_iter().filter_map(one).collect::<Vec<_>>().join(" ")
}
