use std::time::Instant;

use super::{
    error::ProtocolError,
    limits::{GLITCHES, GLITCHES_A_SECOND, REQUEST},
};

/// What a frame of the peer was worth to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It changed nothing: bytes that are there already, credit that was given, a word about a stream that is over. An
    /// honest peer says such things where frames cross or a channel dies.
    Nothing,
    /// It asked for something that takes us far longer than the asking took.
    Request,
    /// It was of use, with so many new bytes.
    Progress(usize),
}

/// What one channel may still cost beyond what it carries: odd but legal frames spend it, honest traffic and time bring
/// it back. A frame that says nothing takes some 60 ns, less than one that carries a byte, so that there may be many:
/// this ends floods, and is far from what honest peers do at their worst.
#[derive(Debug)]
pub(super) struct Glitches {
    left: u32,
    since: Instant,
}

impl Glitches {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: GLITCHES, since: now }
    }

    /// Something useful was done, by either side.
    pub(super) fn earn(&mut self, glitches: u32) {
        self.left = self.left.saturating_add(glitches).min(GLITCHES);
    }

    /// Puts a frame to the account.
    pub(super) fn weigh(&mut self, worth: Worth, now: Instant) -> Result<(), ProtocolError> {
        let cost = match worth {
            Worth::Progress(bytes) => {
                self.earn(1 + u32::try_from(bytes / 64).unwrap_or(u32::MAX));
                return Ok(());
            }
            Worth::Nothing => 1,
            Worth::Request => REQUEST,
        };
        if self.left < cost {
            // Looked at only now: most channels never come here.
            let passed = now.saturating_duration_since(self.since).as_millis();
            self.earn(u32::try_from(passed * u128::from(GLITCHES_A_SECOND) / 1000).unwrap_or(u32::MAX));
            self.since = now;
        }
        self.left = self.left.checked_sub(cost).ok_or(ProtocolError::TooManyGlitches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many frames of this worth pass in so long, so many a second.
    fn pass(worth: Worth, a_second: u32, seconds: u32) -> Result<(), u32> {
        let begin = Instant::now();
        let mut glitches = Glitches::new(begin);
        for n in 0..a_second * seconds {
            let now = begin + Duration::from_secs(1) * n / a_second;
            glitches.weigh(worth, now).map_err(|_| n)?;
        }
        Ok(())
    }

    #[test]
    fn a_flood_ends_and_a_trickle_does_not() {
        assert_eq!(pass(Worth::Nothing, GLITCHES_A_SECOND - 10, 3600), Ok(()));
        assert!(pass(Worth::Nothing, 1_000_000, 2).is_err_and(|frames| frames >= GLITCHES));
        assert_eq!(pass(Worth::Request, GLITCHES_A_SECOND / REQUEST - 1, 3600), Ok(()));
        assert!(pass(Worth::Request, 10_000, 2).is_err_and(|requests| requests >= GLITCHES / REQUEST));
    }

    #[test]
    fn honest_traffic_pays_for_what_goes_wrong_in_it() {
        let now = Instant::now();
        let mut glitches = Glitches::new(now);
        // A second, as long as it may take, in which every other key comes twice.
        for _ in 0..10 * GLITCHES {
            assert_eq!(glitches.weigh(Worth::Progress(1), now), Ok(()));
            assert_eq!(glitches.weigh(Worth::Nothing, now), Ok(()));
        }
        // A piece of bulk data pays for a thousand.
        let before = glitches.left;
        (0..1000).for_each(|_| glitches.weigh(Worth::Nothing, now).unwrap());
        glitches.weigh(Worth::Progress(64 * 1024), now).unwrap();
        assert!(glitches.left >= before);
    }
}
