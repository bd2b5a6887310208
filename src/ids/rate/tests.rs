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
    for same in ["10m", "10MB", "10MB/s", "10M/s", "10mb", "10000K", "0.01G"] {
        assert_eq!(same.parse::<Rate>(), "10M".parse(), "{same}");
    }
    assert_eq!("8KiB".parse(), Ok(Rate::new(8192).unwrap()));
    for wrong in ["", "M", "0", "-1M", "1e9", "inf", "NaN", "10 M", "10Mbit", "/s", "9999G", "1.2.3K"] {
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
