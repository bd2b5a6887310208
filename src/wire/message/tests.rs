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
fn addproxy_takes_one_to_six_arguments() {
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
        ("8080:::::7", "8080:default::::7"),
        ("8080:blue:80:3:networks:4294967295", "8080:blue:80:3:networks:4294967295"),
    ] {
        assert_eq!(read(&format!("ADDPROXY:{text}")).unwrap(), format!("ADDPROXY:{printed}"));
        assert_eq!(text.parse::<AddProxy>().unwrap().has_networks, text.contains("networks"));
    }
    for bad in [
        "ADDPROXY:1:a:2:3:networks:",
        "ADDPROXY:1:a:2:3:Networks",
        "ADDPROXY:1:a:2:0",
        "ADDPROXY:1:a:2:1001",
        "ADDPROXY:1:a:2:+3",
        "ADDPROXY:1:a:2:3:4",
        "ADDPROXY:1:a:2:3:networks:4294967296",
        "ADDPROXY:1:::::-1",
        "ADDPROXY:1:::::1:",
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

#[test]
fn numbered_requests_and_answers_round_trip() {
    for (text, action) in [
        ("REMOVEPROXY:7:8080", TunnelAction::RemoveProxy(RemoveProxy { number: 7, port: 8080 })),
        ("RESPONSE:7", TunnelAction::Granted(7)),
        ("ERROR:4294967295", TunnelAction::Refused(u32::MAX)),
    ] {
        assert_eq!(action.to_string(), text);
        assert_eq!(text.parse::<TunnelAction>(), Ok(action));
    }
    for bad in
        ["REMOVEPROXY:7", "REMOVEPROXY:7:65536", "REMOVEPROXY:7:80:", "RESPONSE:", "RESPONSE:x", "ERROR:-1"]
    {
        assert_eq!(bad.parse::<TunnelAction>(), Err(ActionError::Number), "{bad}");
    }
    assert_eq!("PING:1".parse::<TunnelAction>(), Err(ActionError::Unknown));
}
