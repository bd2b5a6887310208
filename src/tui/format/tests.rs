//! Widths and texts of formatted figures.

use super::*;

#[test]
fn a_long_name_is_truncated_in_its_middle() {
    assert_eq!(truncate_middle("edge-fra", 8), "edge-fra");
    assert_eq!(truncate_middle("edge-frankfurt-1", 9), "edge…rt-1");
    assert_eq!(truncate_middle("edge-frankfurt-1", 10), "edge-…rt-1");
    assert_eq!(truncate_middle("edge-frankfurt-1", 4), "edg…");
    for width in 0..12 {
        for name in ["端末の名前が長い", "👩‍👩‍👧‍👦👩‍👩‍👧‍👦🇩🇪🇫🇷👍🏽👍🏽", "ﷺﷺﷺ", "لا لا لا لا"]
        {
            for text in [truncate_middle(name, width), truncate(name, width), truncate_start(name, width)] {
                assert!(text.width() <= width, "{name} in {width}: {text}");
            }
        }
    }
}

#[test]
fn bytes_take_at_most_five_cells() {
    for (n, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1.0K"),
        (99_949, "99.9K"),
        (99_950, "100K"),
        (999_499, "999K"),
        (999_500, "1.0M"),
        (18_400_000, "18.4M"),
        (u64::MAX, "18.4E"),
    ] {
        assert_eq!(bytes(n), text);
    }
    let mut n = 1u64;
    while let Some(next) = n.checked_mul(7) {
        assert!(bytes(n).len() <= 5, "{n}");
        n = next / 3;
    }
    assert_eq!(rate(-4.0), "0");
    assert_eq!(rate(f64::NAN), "0");
}

#[test]
fn ages_and_counts_are_short() {
    for (s, text) in [(0, "0s"), (59, "59s"), (291, "4m51"), (3720, "1h02"), (273_600, "3d04h")] {
        assert_eq!(age(Duration::from_secs(s)), text);
    }
    assert_eq!(count(1_284_003), "1,284,003");
    assert_eq!(counted(1, "stream"), "1 stream");
}

#[test]
fn latencies_take_at_most_five_cells() {
    for (us, text) in [
        (0, "0µs"),
        (999, "999µs"),
        (1000, "1.0ms"),
        (9_949, "9.9ms"),
        (9_951, "10ms"),
        (999_499, "999ms"),
        (999_500, "1.0s"),
        (99_949_999, "99.9s"),
        (99_950_000, "1m"),
        (u64::MAX, "9999m"),
    ] {
        let text_of = latency(Duration::from_micros(us));
        assert_eq!(text_of, text);
        assert!(text_of.chars().count() <= 5);
    }
}

#[test]
fn text_is_truncated_by_cells_not_by_bytes() {
    assert_eq!(fit("edge", 6), "edge  ");
    assert_eq!(fit_right("7", 3), "  7");
    assert_eq!(fit("edge-frankfurt", 6), "edge-…");
    assert_eq!(fit("界界界", 4), "界… ");
    assert_eq!(truncate("abc", 0), "");
    assert_eq!(truncate_start("[2001:db8::1]:443", 8), "…:1]:443");
}

#[test]
fn ports_that_do_not_fit_are_counted() {
    assert_eq!(ports(&[], 8), "");
    assert_eq!(ports(&[8080], 3), ":8080");
    assert_eq!(ports(&[80, 443], 8), ":80 :443");
    assert_eq!(ports(&[80, 443], 7), ":80 +1");
    assert_eq!(ports(&[80, 443, 8080], 14), ":80 :443 :8080");
    assert_eq!(ports(&[80, 443, 8080], 13), ":80 :443 +1");
    let many: Vec<u16> = (8000..9000).collect();
    assert_eq!(ports(&many, 16), ":8000 :8001 +998");
    assert_eq!(ports(&many, 10), ":8000 +999");
    assert_eq!(
        (ports(&many, 9), ports(&[80, 443], 5), ports(&[], 0)),
        ("1000".into(), "2".into(), "".into())
    );
}
