/// How evenly a load is spread over those that are to carry it, in the three ways people ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoadBalance {
    /// How far the busiest is above the mean: 1 is even.
    pub(crate) imbalance: f64,
    /// Jain's index: 1 is even, one by their number where one has everything.
    pub(crate) jain: f64,
    /// The Gini coefficient, scaled to their number: 0 is even, 1 where one has everything.
    pub(crate) gini: f64,
}

impl LoadBalance {
    /// Of loads that should be the same. Nothing where there is nothing to compare.
    pub(crate) fn of(mut loads: Vec<f64>) -> Option<Self> {
        let (count, total) = (loads.len() as f64, loads.iter().sum::<f64>());
        if loads.len() < 2 || total <= 0.0 {
            return None;
        }
        loads.sort_unstable_by(f64::total_cmp);
        let squares: f64 = loads.iter().map(|load| load * load).sum();
        let ranked: f64 = loads.iter().enumerate().map(|(i, load)| (i + 1) as f64 * load).sum();
        let gini = 2.0 * ranked / (count * total) - (count + 1.0) / count;
        Some(Self {
            imbalance: loads.last().copied().unwrap_or_default() * count / total,
            jain: total * total / (count * squares),
            // Scaled, so that one of two that has everything is 1 and not a half.
            gini: (gini * count / (count - 1.0)).clamp(0.0, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_is_even_and_all_on_one_is_not() {
        let even = LoadBalance::of(vec![7.0; 4]).unwrap();
        assert!((even.imbalance - 1.0).abs() < 1e-9 && (even.jain - 1.0).abs() < 1e-9 && even.gini < 1e-9);
        let one = LoadBalance::of(vec![0.0, 0.0, 8.0, 0.0]).unwrap();
        assert!((one.imbalance - 4.0).abs() < 1e-9 && (one.jain - 0.25).abs() < 1e-9);
        assert!((one.gini - 1.0).abs() < 1e-9);
        let some = LoadBalance::of(vec![1.0, 3.0]).unwrap();
        assert!((some.imbalance - 1.5).abs() < 1e-9 && (some.jain - 0.8).abs() < 1e-9);
        assert!((some.gini - 0.5).abs() < 1e-9);
        assert_eq!(LoadBalance::of(vec![5.0]), None);
        assert_eq!(LoadBalance::of(vec![0.0, 0.0]), None);
    }
}
