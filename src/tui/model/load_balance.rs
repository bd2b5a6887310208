//! How evenly the load is distributed over the proxies.

/// The distribution of a load over the proxies that share it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoadBalance {
    /// The largest load divided by the mean: 1 is even, the number of proxies is everything on one of them.
    pub(crate) imbalance: f64,
}

impl LoadBalance {
    /// Computes the distribution of loads that should be equal. Returns `None` for fewer than two loads, or without
    /// any load.
    pub(crate) fn of(loads: Vec<f64>) -> Option<Self> {
        let (count, total) = (loads.len() as f64, loads.iter().sum::<f64>());
        if loads.len() < 2 || total <= 0.0 {
            return None;
        }
        let largest = loads.into_iter().max_by(f64::total_cmp).unwrap_or_default();
        Some(Self { imbalance: largest * count / total })
    }
}

#[cfg(test)]
mod tests;
