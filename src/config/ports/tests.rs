//! Unit tests of port ranges.

use super::*;

#[test]
fn port_ranges_round_trip() {
    assert_eq!("1024-65535".parse(), Ok(PortRange::default()));
    assert_eq!("8080".parse::<PortRange>().unwrap().to_string(), "8080-8080");
    for bad in ["", "0", "0-5", "1-65536", "a-b", "1-2-3", "1..2"] {
        assert_eq!(bad.parse::<PortRange>(), Err(PortRangeError::Syntax), "{bad}");
    }
    let empty = "9000-8000".parse::<PortRange>().unwrap_err();
    assert!(empty.to_string().contains("write 8000-9000"), "{empty}");
}

#[test]
fn candidates_avoid_ephemeral_ports() {
    let all: Vec<u16> = PortRange::default().candidates(65_535).collect();
    assert_eq!((all.len(), all.iter().min(), all.iter().max()), (12_768, Some(&20_000), Some(&32_767)));
    let narrow: PortRange = "40000-40002".parse().unwrap();
    assert_eq!(narrow.candidates(1).collect::<Vec<_>>(), [40_001, 40_002, 40_000]);
}
