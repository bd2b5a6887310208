//! Tests of the glitch budget.

use std::time::Duration;

use super::*;

/// Sends frames of one effect at a rate. Returns the number of the frame that was refused, if any.
fn send(effect: FrameEffect, per_second: u32, seconds: u32) -> Result<(), u32> {
    let begin = Instant::now();
    let mut budget = GlitchBudget::new(begin);
    for n in 0..per_second * seconds {
        let now = begin + Duration::from_secs(1) * n / per_second;
        budget.account(effect, now).map_err(|_| n)?;
    }
    Ok(())
}

#[test]
fn flood_is_refused_and_slow_glitches_are_not() {
    assert_eq!(send(FrameEffect::Glitch, GLITCHES_PER_SECOND - 10, 3600), Ok(()));
    assert!(send(FrameEffect::Glitch, 1_000_000, 2).is_err_and(|frames| frames >= MAX_GLITCHES));
    assert_eq!(send(FrameEffect::Request, GLITCHES_PER_SECOND / REQUEST_COST - 1, 3600), Ok(()));
    assert!(
        send(FrameEffect::Request, 10_000, 2).is_err_and(|requests| requests >= MAX_GLITCHES / REQUEST_COST)
    );
}

#[test]
fn useful_frames_refill_the_budget() {
    let now = Instant::now();
    let mut budget = GlitchBudget::new(now);
    // Without any time passing, every other frame of one byte is a duplicate.
    for _ in 0..10 * MAX_GLITCHES {
        assert_eq!(budget.account(FrameEffect::Progress(1), now), Ok(()));
        assert_eq!(budget.account(FrameEffect::Glitch, now), Ok(()));
    }
    // One chunk of bulk data refills a thousand.
    let before = budget.left;
    (0..1000).for_each(|_| budget.account(FrameEffect::Glitch, now).unwrap());
    budget.account(FrameEffect::Progress(64 * 1024), now).unwrap();
    assert!(budget.left >= before);
}
