//! Tests of the lock-order check. They run in debug builds only, like the check itself.

#![cfg(debug_assertions)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{super::flat_combining::FlatCombiner, *};

fn panics(work: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn locks_are_acquired_in_rank_order_only() {
    let (delivery, other) = (DeliveryMutex::new(()), DeliveryMutex::new(()));
    let (state, leaf) = (LinkStateMutex::new(()), LeafMutex::new(()));
    {
        let _delivery = delivery.lock();
        let _other = other.try_lock().expect("try_lock accepts a held lock of the same rank");
        let _state = state.lock();
        let _leaf = leaf.lock();
    }
    {
        let _state = state.lock();
        assert!(panics(|| drop(delivery.lock())), "the delivery lock comes before the link state");
        assert!(panics(|| drop(delivery.try_lock())), "also without blocking");
        assert!(panics(|| drop(LinkStateMutex::new(()).lock())), "one link state at a time");
    }
    {
        let _leaf = leaf.lock();
        assert!(panics(|| drop(state.lock())), "no lock is acquired under a leaf lock");
    }
    let _delivery = delivery.lock();
    assert!(panics(|| drop(other.lock())), "a second delivery lock may only be tried");
}

#[test]
fn system_calls_wakes_and_encoding_are_refused_under_the_link_state() {
    let (delivery, state) = (DeliveryMutex::new(()), LinkStateMutex::new(()));
    let guard = state.lock();
    assert!(panics(assert_link_state_unlocked));
    drop(guard);
    let _delivery = delivery.lock();
    assert_link_state_unlocked();
}

#[test]
fn work_is_not_combined_under_the_link_state() {
    let (combiner, state) = (FlatCombiner::new(0), LinkStateMutex::new(()));
    let delivery = DeliveryMutex::new(());
    let add_one = || {
        combiner.run(|count| {
            *count += 1;
            drop(state.lock());
            true
        });
    };
    let guard = delivery.lock();
    add_one();
    drop(guard);
    combiner.run(|count| {
        assert!(panics(|| drop(delivery.lock())), "a delivery lock may only be tried during a flush");
        *count == 1
    });
    let _state = state.lock();
    assert!(panics(add_one), "a flush locks the link state");
}

#[test]
fn a_failed_try_lock_counts_nothing() {
    let delivery = DeliveryMutex::new(());
    let held = delivery.lock();
    assert!(delivery.try_lock().is_none());
    drop(held);
    drop(delivery.lock());
}
