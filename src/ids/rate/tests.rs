//! Unit tests of parsing and printing rates.

use proptest::prelude::*;

use super::*;

#[test]
fn rates_parse_and_print_with_units() {
    for (text, bytes) in
        [("10M", 10_000_000), ("1.5M", 1_500_000), ("500K", 500_000), ("800", 800), ("2G", 2_000_000_000)]
    {
        assert_eq!(text.parse(), Ok(Rate::new(bytes).unwrap()));
        assert_eq!(Rate::new(bytes).unwrap().to_string(), text);
    }
    assert_eq!("10m".parse::<Rate>(), "10M".parse());
    for wrong in ["", "M", "0", "-1M", "1e9", "inf", "NaN", "10 M", "10MB", "9999G", "1.2.3K"] {
        assert_eq!(wrong.parse::<Rate>(), Err(IdError::Rate), "{wrong}");
    }
}

proptest! {
    #[test]
    fn every_rate_round_trips(bytes in 1u64..1_000_000_000_000) {
        let rate = Rate::new(bytes).unwrap();
        prop_assert_eq!(rate.to_string().parse(), Ok(rate));
    }
}
