//! Smooth weighted round robin, the algorithm of nginx.

#[cfg(test)]
mod tests;

/// Smooth weighted round robin as in nginx: each pick raises the score of every member by its weight, selects the
/// member with the highest score, and lowers that score by the sum of all weights. Over as many picks as the sum of
/// the weights, each member is selected exactly as often as its weight, and its picks are spread: weights 5, 1 and 1
/// give `aabacaa` instead of `aaaaabc`.
#[derive(Debug, Default)]
pub(super) struct SmoothRoundRobin {
    /// The candidates of the last pick, in their order.
    members: Vec<WeightedMember>,
}

/// A member and its score from the picks so far.
#[derive(Debug)]
struct WeightedMember {
    /// Identifies the member from one pick to the next: the address of its object.
    id: usize,
    /// The member's share of the picks, relative to the others.
    weight: u32,
    /// The sum of the weights added at each pick, less what its own picks have cost. The highest score is picked
    /// next.
    score: i64,
}

/// A candidate of one pick.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightedCandidate {
    /// Identifies the candidate from one pick to the next.
    pub(super) id: usize,
    /// The candidate's share of the picks, relative to the others.
    pub(super) weight: u32,
    /// Whether this pick must not select the candidate, although it takes part in the rotation.
    pub(super) is_excluded: bool,
}

impl SmoothRoundRobin {
    /// Selects a candidate. Returns its index, or `None` if there is none that is not excluded. All scores start at
    /// zero again if the candidates or their weights differ from those of the last pick.
    pub(super) fn pick(
        &mut self,
        candidates: impl Iterator<Item = WeightedCandidate> + Clone,
    ) -> Option<usize> {
        let is_same = |(member, candidate): (&WeightedMember, WeightedCandidate)| {
            member.id == candidate.id && member.weight == candidate.weight
        };
        // Scores are only comparable between the same weights: if weights of 1000 were replaced by weights of 1, a
        // member with a high score would be selected a thousand times in a row.
        if self.members.len() != candidates.clone().count()
            || !self.members.iter().zip(candidates.clone()).all(is_same)
        {
            self.members.clear();
            let new = candidates.clone();
            let new = new.map(|WeightedCandidate { id, weight, .. }| WeightedMember { id, weight, score: 0 });
            self.members.extend(new);
        }
        let mut weight_sum = 0;
        for member in &mut self.members {
            member.score += i64::from(member.weight);
            weight_sum += i64::from(member.weight);
        }
        let eligible = self.members.iter_mut().zip(candidates).enumerate();
        let eligible = eligible.filter(|(_, (_, candidate))| !candidate.is_excluded);
        // `min_by_key` on the negated score, because it selects the first of equal members and `max_by_key` the last.
        let (index, (best, _)) = eligible.min_by_key(|(_, (member, _))| -member.score)?;
        best.score -= weight_sum;
        Some(index)
    }
}
