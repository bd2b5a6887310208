//! Unit tests of the smooth weighted round robin.

use proptest::prelude::*;

use super::*;

fn picks(smooth: &mut SmoothRoundRobin, weights: &[u32], count: usize) -> Vec<usize> {
    let members = weights.iter().enumerate();
    let members = members.map(|(id, &weight)| WeightedCandidate { id, weight, is_excluded: false });
    (0..count).map(|_| smooth.pick(members.clone()).unwrap()).collect()
}

fn shares(picks: &[usize], members: usize) -> Vec<u32> {
    let mut shares = vec![0; members];
    picks.iter().for_each(|&index| shares[index] += 1);
    shares
}

#[test]
fn picks_of_a_heavy_member_are_spread() {
    assert_eq!(picks(&mut SmoothRoundRobin::default(), &[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(SmoothRoundRobin::default().pick(std::iter::empty()), None);
}

#[test]
fn an_excluded_member_passes_its_picks_to_the_others() {
    let mut smooth = SmoothRoundRobin::default();
    let members = [(0, 3), (1, 2), (2, 1)];
    let members = members.map(|(id, weight)| WeightedCandidate { id, weight, is_excluded: id == 0 });
    let picks: Vec<_> = (0..300).map(|_| smooth.pick(members.iter().copied()).unwrap()).collect();
    let shares = shares(&picks, 3);
    assert!(shares[0] == 0 && shares[1].abs_diff(shares[2]) <= 100, "{shares:?}");
}

proptest! {
    #[test]
    fn each_member_gets_exactly_its_weight_per_full_round(
        weights in prop::collection::vec(1u32..=1000, 1..12),
        rounds in 1usize..4,
    ) {
        let mut smooth = SmoothRoundRobin::default();
        let sum = weights.iter().sum::<u32>() as usize;
        for _ in 0..rounds {
            prop_assert_eq!(&shares(&picks(&mut smooth, &weights, sum), weights.len()), &weights);
        }
    }

    /// For any weights before the change, and any number of picks with them.
    #[test]
    fn shares_are_exact_from_the_first_pick_after_a_change_of_weights(
        before in prop::collection::vec(1u32..=1000, 1..6),
        after in prop::collection::vec(1u32..=1000, 1..6),
        turn in 0usize..2000,
    ) {
        prop_assume!(before != after);
        let mut smooth = SmoothRoundRobin::default();
        picks(&mut smooth, &before, turn);
        let sum = after.iter().sum::<u32>() as usize;
        prop_assert_eq!(&shares(&picks(&mut smooth, &after, sum), after.len()), &after);
    }

    #[test]
    fn no_member_deviates_from_its_share_by_a_full_round(
        weights in prop::collection::vec(1u32..=20, 1..8),
        count in 1usize..300,
    ) {
        let shares = shares(&picks(&mut SmoothRoundRobin::default(), &weights, count), weights.len());
        let sum = f64::from(weights.iter().sum::<u32>());
        for (share, weight) in shares.iter().zip(&weights) {
            let due = count as f64 * f64::from(*weight) / sum;
            prop_assert!((f64::from(*share) - due).abs() < weights.len() as f64, "{share} of {due}");
        }
    }
}
