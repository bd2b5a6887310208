//! Tests of the memory budget: the reserved part, the shares of the elastic part, and the release of both.

use super::{
    BufferSide::{Receiving, Sending},
    *,
};

const MIB: u64 = 1 << 20;

#[test]
fn the_number_of_streams_follows_from_the_budget() {
    assert_eq!(MemoryBudget::new(1 << 30, 50_000).max_streams(), 21_845);
    assert_eq!(MemoryBudget::new(64 * MIB, 50_000).max_streams(), 1_365);
    let budget = MemoryBudget::new(64 * MIB, 3);
    assert_eq!((0..5).filter(|_| budget.open_stream()).count(), 3);
    budget.close_stream();
    assert!(budget.open_stream() && !budget.open_stream());
    (0..3).for_each(|_| budget.close_stream());
    assert_eq!(budget.used(), 0);
}

/// Streams that reserve all that they may, one after the other, and never release anything.
fn reserve_all(
    budget: &MemoryBudget,
    side: BufferSide,
    claim: Claim,
    wanted: u64,
    streams: usize,
) -> Vec<Reservation> {
    let mut reservations = Vec::new();
    for _ in 0..streams {
        let mut reservation = Reservation::new(side);
        reservation.grow(reservation.allowance(claim, budget).min(wanted), budget);
        reservations.push(reservation);
    }
    reservations
}

#[test]
fn stalled_streams_leave_enough_for_those_that_make_progress() {
    for size in [64 * MIB, 256 * MIB, 1 << 30] {
        let budget = MemoryBudget::new(size, 50_000);
        let mut held = reserve_all(&budget, Receiving, Claim::Growth, 16 * MIB, 1000);
        assert!(held[0].bytes() >= size / 2 / 16 || held[0].bytes() == 16 * MIB, "{:?}", held[0]);
        held.extend(reserve_all(&budget, Receiving, Claim::Unproven, 256 * 1024, 50_000));
        let proven = budget.allowance(Receiving, Claim::Proven, 0);
        assert!(proven >= size / 4 / 8 / 16, "{proven} of {size}");
        assert!(budget.is_tight() && budget.used() <= size);
        held.iter_mut().for_each(|reservation| reservation.resize(0, &budget));
        assert_eq!(budget.used(), 0);
    }
}

/// Regression test: senders to targets that read nothing, of which kernels acknowledge a part, took all of the elastic
/// part that downloads need while it is not known how their users read.
#[test]
fn streams_that_stall_in_one_direction_leave_enough_for_the_other() {
    for (stalled, other) in [(Sending, Receiving), (Receiving, Sending)] {
        let budget = MemoryBudget::new(1 << 30, 50_000);
        let mut held = Vec::new();
        for claim in [Claim::Unproven, Claim::Ramp, Claim::Raised, Claim::Proven] {
            held.extend(reserve_all(&budget, stalled, claim, 256 * 1024, 20_000));
        }
        assert!(budget.allowance(stalled, Claim::Proven, 0) < 1024);
        assert!(budget.allowance(other, Claim::Ramp, 0) >= 256 * 1024);
        assert!(budget.allowance(other, Claim::Proven, 0) >= MIB);
        held.iter_mut().for_each(|reservation| reservation.resize(0, &budget));
        assert_eq!((budget.used(), budget.0.reserved_for_sending.load(Relaxed)), (0, 0));
    }
}

#[test]
fn a_first_window_is_small_only_when_little_is_free() {
    let budget = MemoryBudget::new(1 << 30, 50_000);
    let first = reserve_all(&budget, Receiving, Claim::Unproven, 256 * 1024, 20_000);
    assert_eq!(first[500].bytes(), 256 * 1024);
    assert!(first[19_999].bytes() < 1024, "{:?}", first[19_999]);
}

/// What a server sends before the proxy has accepted the stream has bytes of its own.
#[test]
fn early_data_has_room_where_nothing_else_has() {
    let budget = MemoryBudget::new(64 * MIB, 50_000);
    let (mut most, mut early) = (Reservation::new(Receiving), Reservation::new(Receiving));
    assert_eq!(most.grow(64 * MIB, &budget), budget.0.elastic);
    assert!(early.grow_early(budget.0.early, &budget) && !early.grow_early(budget.0.early + 1, &budget));
    assert!(budget.0.early >= 3 * MIB && budget.used() <= 64 * MIB);
    early.resize(0, &budget);
    assert_eq!(budget.used(), budget.0.elastic);
}
