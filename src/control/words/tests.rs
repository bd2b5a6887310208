//! What an operator writes is understood in one way.

use super::*;

/// A decimal comma and a second rate for a direction are no limits that somebody asked for.
#[test]
fn a_limit_that_can_be_read_in_two_ways_is_an_error() {
    for line in ["1,5M", "down 1,5M", "down 1M 2M", "1M down 2M", "1M 2M", ","] {
        assert!(parse_limits(line).is_err(), "{line}");
    }
    assert_eq!(parse_limits("down 1M, up 2M").unwrap().len(), 2);
}

#[test]
fn each_notation_names_one_kind_of_object() {
    let target = |text: &str| text.parse::<Target>().unwrap();
    assert!(matches!(target("3F9A1C:2"), Target::Stream(_)));
    assert!(matches!(target("123456"), Target::User(_)));
    assert!(matches!(target("65535"), Target::Service(_)));
    assert!(matches!(target("8080:blue"), Target::Service(_)));
    assert_eq!(target("P3"), Target::Proxy(ProxyRef::Id(ProxyId(3))));
    for name in ["edge-1", "my laptop", "P3x", "99999"] {
        assert_eq!(target(name), Target::Proxy(ProxyRef::Name(name.to_owned())), "{name}");
    }
    assert!("".parse::<Target>().unwrap_err().contains("expected: a stream"));
}

#[test]
fn a_policy_is_named_by_a_beginning_that_only_one_has() {
    assert_eq!(parse_policy("least"), Ok(Policy::LeastStreams));
    let error = parse_policy("").unwrap_err();
    assert_eq!(error, "expected: round-robin|weighted|least-streams|peak-ewma");
}
