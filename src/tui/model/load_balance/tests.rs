//! The imbalance of even, uneven and incomparable loads.

use super::*;

#[test]
fn imbalance_is_the_largest_load_by_the_mean() {
    let imbalance = |loads: &[f64]| LoadBalance::of(loads.to_vec()).unwrap().imbalance;
    assert!((imbalance(&[7.0; 4]) - 1.0).abs() < 1e-9);
    assert!((imbalance(&[0.0, 0.0, 8.0, 0.0]) - 4.0).abs() < 1e-9);
    assert!((imbalance(&[1.0, 3.0]) - 1.5).abs() < 1e-9);
    assert_eq!(LoadBalance::of(vec![5.0]), None);
    assert_eq!(LoadBalance::of(vec![0.0, 0.0]), None);
}
