//! The glitch budget of a channel, as HAProxy's `tune.h2.fe.glitches-threshold`: it ends floods of frames that are
//! legal and useless.

use std::time::Instant;

use super::{
    error::ProtocolError,
    limits::{GLITCHES_PER_SECOND, MAX_GLITCHES, REQUEST_COST},
};

/// What a received frame changed, which decides how it counts in the glitch budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameEffect {
    /// Nothing changed: the bytes were there already, the credit had been given, or the stream is closed. An honest
    /// peer sends such frames when frames cross, or when a channel dies.
    Glitch,
    /// A request that costs this side far more than it cost the peer.
    Request,
    /// The frame was useful, and carried this number of new bytes.
    Progress(usize),
}

/// How many more glitches one channel may bring before it is closed.
///
/// Glitches spend the budget; useful frames and time refill it. A glitch takes some 60 ns, less than a frame that
/// carries one byte, so that the budget can be large: it ends floods, and is far from what honest peers do at their
/// worst.
#[derive(Debug)]
pub(super) struct GlitchBudget {
    /// How many more glitches the channel may receive before it is closed.
    left: u32,
    /// When the budget was last refilled for the time that has passed.
    refilled_at: Instant,
}

impl GlitchBudget {
    /// Creates a full glitch budget.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MAX_GLITCHES, refilled_at: now }
    }

    /// Adds glitches to the budget, up to its maximum, because one of the sides made progress.
    pub(super) fn refill(&mut self, glitches: u32) {
        self.left = self.left.saturating_add(glitches).min(MAX_GLITCHES);
    }

    /// Counts one received frame: a glitch or a request spends the budget, a useful frame refills it.
    ///
    /// # Errors
    /// [`ProtocolError::TooManyGlitches`] if the budget is spent.
    pub(super) fn account(&mut self, effect: FrameEffect, now: Instant) -> Result<(), ProtocolError> {
        let cost = match effect {
            FrameEffect::Progress(bytes) => {
                self.refill(1 + u32::try_from(bytes / 64).unwrap_or(u32::MAX));
                return Ok(());
            }
            FrameEffect::Glitch => 1,
            FrameEffect::Request => REQUEST_COST,
        };
        if self.left < cost {
            // The time is added only here: most channels never spend their budget.
            let elapsed = now.saturating_duration_since(self.refilled_at).as_millis();
            self.refill(u32::try_from(elapsed * u128::from(GLITCHES_PER_SECOND) / 1000).unwrap_or(u32::MAX));
            self.refilled_at = now;
        }
        self.left = self.left.checked_sub(cost).ok_or(ProtocolError::TooManyGlitches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
