/// SmoothRoundRobin weighted round robin, as nginx does it: each pick raises every member's score by its weight, takes the
/// highest, and lowers that one's by the sum of all. Over as many picks as the weights sum up to, each member has
/// exactly its weight of them, and they are spread: weights 5, 1 and 1 give `aabacaa`, not `aaaaabc`.
#[derive(Debug, Default)]
pub(super) struct SmoothRoundRobin {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    id: usize,
    weight: u32,
    score: i64,
}

/// Somebody who can be picked.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightedCandidate {
    /// Tells members apart.
    pub(super) id: usize,
    pub(super) weight: u32,
    /// Not this time: it has its turn, but the pick goes to another.
    pub(super) passed_over: bool,
}

impl SmoothRoundRobin {
    /// The index of the one whose turn it is.
    pub(super) fn pick(&mut self, members: impl Iterator<Item = WeightedCandidate> + Clone) -> Option<usize> {
        let same =
            |(known, now): (&Member, WeightedCandidate)| known.id == now.id && known.weight == now.weight;
        // The scores of others say nothing about these: with weights of 1 in place of 1000, who had waited for a
        // while would have a thousand turns without a break.
        if self.members.len() != members.clone().count()
            || !self.members.iter().zip(members.clone()).all(same)
        {
            self.members.clear();
            let new =
                members.clone().map(|WeightedCandidate { id, weight, .. }| Member { id, weight, score: 0 });
            self.members.extend(new);
        }
        let mut sum = 0;
        for member in &mut self.members {
            member.score += i64::from(member.weight);
            sum += i64::from(member.weight);
        }
        let allowed =
            self.members.iter_mut().zip(members).enumerate().filter(|(_, (_, now))| !now.passed_over);
        // The first of those that are alike.
        let (index, (best, _)) = allowed.min_by_key(|(_, (member, _))| -member.score)?;
        best.score -= sum;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picks(smooth: &mut SmoothRoundRobin, weights: &[u32], count: usize) -> Vec<usize> {
        let members = weights.iter().enumerate();
        let members = members.map(|(id, &weight)| WeightedCandidate { id, weight, passed_over: false });
        (0..count).map(|_| smooth.pick(members.clone()).unwrap()).collect()
    }

    fn shares(picks: &[usize], members: usize) -> Vec<u32> {
        let mut shares = vec![0; members];
        picks.iter().for_each(|&index| shares[index] += 1);
        shares
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(picks(&mut SmoothRoundRobin::default(), &[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(SmoothRoundRobin::default().pick(std::iter::empty()), None);
    }

    #[test]
    fn who_cannot_take_its_turn_gives_it_to_the_next() {
        let mut smooth = SmoothRoundRobin::default();
        let members = [(0, 3), (1, 2), (2, 1)];
        let members = members.map(|(id, weight)| WeightedCandidate { id, weight, passed_over: id == 0 });
        let picks: Vec<_> = (0..300).map(|_| smooth.pick(members.iter().copied()).unwrap()).collect();
        let shares = shares(&picks, 3);
        assert!(shares[0] == 0 && shares[1].abs_diff(shares[2]) <= 100, "{shares:?}");
    }

    proptest! {
        #[test]
        fn each_has_exactly_its_weight_of_as_many_picks_as_the_weights_sum_up_to(
            weights in prop::collection::vec(1u32..=1000, 1..12),
            rounds in 1usize..4,
        ) {
            let mut smooth = SmoothRoundRobin::default();
            let sum = weights.iter().sum::<u32>() as usize;
            for _ in 0..rounds {
                prop_assert_eq!(&shares(&picks(&mut smooth, &weights, sum), weights.len()), &weights);
            }
        }

        /// Whatever weights there were before, however far their round had come.
        #[test]
        fn the_same_holds_from_the_first_pick_after_a_change(
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
        fn nobody_is_ever_a_whole_turn_off(
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
}
