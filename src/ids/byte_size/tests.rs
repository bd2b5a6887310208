//! K is 1,000 and KiB is 1,024.

use super::*;

#[test]
fn sizes_are_parsed_with_decimal_and_binary_units() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512K", 512_000),
        ("512k", 512_000),
        ("512kB", 512_000),
        ("512KB", 512_000),
        ("512KiB", 524_288),
        ("512Ki", 524_288),
        ("1.5M", 1_500_000),
        ("1.5MiB", 1_572_864),
        ("20mb", 20_000_000),
        ("1G", 1_000_000_000),
        ("1gib", 1 << 30),
        ("1T", 1_000_000_000_000),
        ("1TiB", 1 << 40),
    ] {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
    }
    for wrong in [
        "", "M", "+1", "-1", "1e3", "0.5", "1.0001K", "1iB", "1i", "1Mbit", "1 M", "2TiB", "inf", "1.2.3K",
        "ß",
    ] {
        assert_eq!(wrong.parse::<ByteSize>(), Err(IdError::ByteSize), "{wrong}");
    }
}
