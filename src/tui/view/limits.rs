//! Rate limits as text.

use crate::ids::{Direction, Rate, RateLimits};
use crate::tui::format;

pub(super) use crate::tui::layout::LIMIT_WIDTH as WIDTH;

/// Both limits, as far as there are any: `↓10.0M ↑500K`.
pub(super) fn text(limits: RateLimits) -> String {
    let one = |(direction, arrow)| {
        let rate: Rate = limits.of(direction)?;
        Some(format!("{arrow}{}", format::bytes(rate.bytes_per_second())))
    };
    [(Direction::Down, '↓'), (Direction::Up, '↑')].into_iter().filter_map(one).collect::<Vec<_>>().join(" ")
}
