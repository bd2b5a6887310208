//! Requests are understood, or answered with what to write instead.

use serde_json::json;

use super::*;

fn commands(line: &str) -> Result<Vec<Command>, RequestError> {
    let find = |name: &str| match name {
        "edge-1" => vec![ProxyId(1)],
        "edge" => vec![ProxyId(2), ProxyId(3)],
        _ => Vec::new(),
    };
    let (request, _) = parse(line.as_bytes()).request?;
    Ok(request.commands(find)?.unwrap_or_default())
}

fn error(line: &str) -> RequestError {
    commands(line).unwrap_err()
}

#[test]
fn every_request_is_understood_as_in_its_example() {
    for info in REQUESTS {
        let received = parse(info.example.as_bytes());
        let (request, known) = received.request.unwrap_or_else(|error| panic!("{}: {error}", info.name));
        assert_eq!(known.name, info.name);
        assert!(received.id.is_number());
        // What is sent is what is understood.
        let sent = serde_json::to_vec(&request).unwrap();
        assert_eq!(parse(&sent).request.unwrap().0, request, "{}", info.name);
    }
}

#[test]
fn a_command_survives_serialization() {
    let (stream, user): (StreamKey, UserChannelId) = ("3F9A1C:7".parse().unwrap(), "3F9A1C".parse().unwrap());
    let service: ServiceKey = "8080:blue".parse().unwrap();
    let (proxy, rate) = (ProxyId(4), Rate::new(1_234_567));
    for command in [
        Command::KillStream(stream),
        Command::KillUser(user),
        Command::PauseStream(stream),
        Command::ResumeStream(stream),
        Command::SetPriority(stream, Priority::Urgent),
        Command::KickProxy(proxy),
        Command::SetLimit(LimitScope::Stream(stream), Direction::Down, rate),
        Command::SetLimit(LimitScope::User(user), Direction::Up, None),
        Command::SetLimit(LimitScope::Proxy(proxy), Direction::Down, rate),
        Command::SetLimit(LimitScope::Service(service.clone()), Direction::Up, rate),
        Command::DrainProxy(proxy),
        Command::UndrainProxy(proxy),
        Command::SetWeight(proxy, 7),
        Command::SetPolicy(service, Policy::PeakEwma),
        Command::Unblock("192.0.2.7".parse().unwrap()),
        Command::Ban("192.0.2.0/24".parse().unwrap()),
        Command::Unban("2001:db8::/48".parse().unwrap()),
    ] {
        let line = serde_json::to_string(&Request::from(&command)).unwrap();
        assert_eq!(commands(&line).unwrap(), [command], "{line}");
    }
}

#[test]
fn unknown_fields_are_ignored_and_the_id_is_repeated() {
    let received = parse(br#"{"id":"a","do":"kill","stream":"3F9A1C:1","later":{"x":[1]}}"#);
    assert_eq!(received.id, json!("a"));
    assert_eq!(received.request.unwrap().0, Request::Kill { stream: "3F9A1C:1".parse().unwrap() });
    let received = parse(br#"{"do":"totals","later":1}"#);
    assert_eq!((received.id, received.request.unwrap().0), (Value::Null, Request::Totals));
}

#[test]
fn an_error_says_what_to_write_instead() {
    for (line, code, advice) in [
        ("ps", ErrorCode::InvalidJson, r#"{"id":1,"do":"ps""#),
        ("[1]", ErrorCode::InvalidJson, "a request is a JSON object"),
        (r#"{"id":1}"#, ErrorCode::InvalidRequest, "the field «do»"),
        (r#"{"do":"kil"}"#, ErrorCode::UnknownRequest, "did you mean «kill»?"),
        (r#"{"do":"frobnicate"}"#, ErrorCode::UnknownRequest, "known: whoami, state, ps"),
        (r#"{"do":"kill"}"#, ErrorCode::InvalidRequest, "missing field `stream`; for example:"),
        (r#"{"do":"kill","stream":"x"}"#, ErrorCode::InvalidRequest, "expected USER:STREAM, like 3F9A1C:2"),
        (r#"{"do":"kick","proxy":"nobody"}"#, ErrorCode::NotFound, "no proxy «nobody» is connected"),
        (r#"{"do":"kick","proxy":"edge"}"#, ErrorCode::Ambiguous, "by its id: P2, P3"),
        (r#"{"do":"limit","target":"edge-1"}"#, ErrorCode::InvalidRequest, "«down», «up» or both"),
        (r#"{"do":"limit","target":"edge-1","down":"1,5M"}"#, ErrorCode::InvalidRequest, "down|up RATE"),
        (r#"{"do":"limit","target":"edge-1","down":0}"#, ErrorCode::InvalidRequest, "0 is no rate"),
        (r#"{"do":"policy","service":"8080","policy":"fair"}"#, ErrorCode::InvalidRequest, "least-streams"),
        (r#"{"do":"ban","network":"10.0.0.1/8"}"#, ErrorCode::InvalidRequest, "the network is 10.0.0.0/8"),
    ] {
        let error = error(line);
        assert_eq!(error.code, code, "{line}: {error}");
        assert!(error.message.contains(advice), "{line}: {error}");
    }
}

#[test]
fn a_limit_names_any_object_and_both_directions() {
    let rate = Rate::new(1_000_000);
    for (target, scope) in [
        ("3F9A1C:1", LimitScope::Stream("3F9A1C:1".parse().unwrap())),
        ("3F9A1C", LimitScope::User("3F9A1C".parse().unwrap())),
        ("8080", LimitScope::Service("8080:default".parse().unwrap())),
        ("P9", LimitScope::Proxy(ProxyId(9))),
        ("edge-1", LimitScope::Proxy(ProxyId(1))),
    ] {
        let line = json!({ "do": "limit", "target": target, "down": "1M", "up": "off" }).to_string();
        let expected = [
            Command::SetLimit(scope.clone(), Direction::Down, rate),
            Command::SetLimit(scope, Direction::Up, None),
        ];
        assert_eq!(commands(&line).unwrap(), expected);
    }
}
