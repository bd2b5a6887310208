//! Unit tests of the names of actions and of registrations.

use super::*;

#[test]
fn every_action_round_trips_through_its_name() {
    for (action, name) in NAMES {
        assert_eq!(action.to_string(), name);
        assert_eq!(name.parse::<TunnelAction>(), Ok(action));
    }
}

#[test]
fn addproxy_takes_one_to_five_arguments() {
    let read = |s: &str| s.parse::<TunnelAction>().map(|action| action.to_string());
    assert_eq!(read("ADDPROXY:8080").unwrap(), "ADDPROXY:8080:default");
    assert_eq!(read("ADDPROXY:8080:blue").unwrap(), "ADDPROXY:8080:blue");
    assert_eq!(read("ADDPROXY:8080:blue:80").unwrap(), "ADDPROXY:8080:blue:80");
    assert_eq!(read("ADDPROXY:8080::80").unwrap(), "ADDPROXY:8080:default:80");
    assert_eq!(read("ADDPROXY:8080:blue:80:3").unwrap(), "ADDPROXY:8080:blue:80:3");
    assert_eq!(read("ADDPROXY:8080:::1000").unwrap(), "ADDPROXY:8080:default::1000");
    assert_eq!(read("ADDPROXY:8080:::").unwrap(), "ADDPROXY:8080:default");
    for (text, printed) in [
        ("8080::::networks", "8080:default:::networks"),
        ("8080:blue:80::networks", "8080:blue:80::networks"),
        ("8080:blue::3:networks", "8080:blue::3:networks"),
        ("8080:blue:80:3:networks", "8080:blue:80:3:networks"),
        ("8080:blue:80:3:", "8080:blue:80:3"),
    ] {
        assert_eq!(read(&format!("ADDPROXY:{text}")).unwrap(), format!("ADDPROXY:{printed}"));
        assert_eq!(text.parse::<AddProxy>().unwrap().has_networks, text.ends_with("networks"));
    }
    for bad in [
        "ADDPROXY:1:a:2:3:networks:",
        "ADDPROXY:1:a:2:3:Networks",
        "ADDPROXY:1:a:2:0",
        "ADDPROXY:1:a:2:1001",
        "ADDPROXY:1:a:2:+3",
        "ADDPROXY:1:a:2:3:4",
        "ADDPROXY:",
        "ADDPROXY:-1",
        "ADDPROXY:65536",
        "ADDPROXY:+80",
        "ADDPROXY:1:a b",
    ] {
        assert_eq!(bad.parse::<TunnelAction>(), Err(ActionError::AddProxy), "{bad}");
    }
    assert_eq!("ADDPROXY".parse::<TunnelAction>(), Err(ActionError::Unknown));
}
