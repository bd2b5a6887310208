//! The examples of `assets/control-protocol.md`, executed against a real server.

use serde_json::Value;

use crate::control_socket::{RawClient, World};

/// The document.
const DOCUMENT: &str = include_str!("../../assets/control-protocol.md");

/// Fields whose values are promised, and not only their kind.
const EXACT: [&str; 4] = ["id", "code", "protocol", "role"];

/// Fields of which a line has one.
const KINDS: [&str; 4] = ["event", "snapshot", "changes", "ok"];

/// Returns how `actual` differs from what an example shows: each of its fields, with a value of the same kind.
fn difference(field: &str, example: &Value, actual: &Value) -> Option<String> {
    match (example, actual) {
        (Value::Object(example), Value::Object(actual)) => example.iter().find_map(|(name, value)| {
            let Some(found) = actual.get(name) else { return Some(format!("{field}.{name} is missing")) };
            difference(name, value, found)
        }),
        (Value::Array(example), Value::Array(actual)) => match (example.first(), actual.first()) {
            (Some(example), Some(actual)) => difference(field, example, actual),
            (Some(_), None) => Some(format!("{field} is empty")),
            (None, _) => None,
        },
        (example, actual) => {
            let is_same = if EXACT.contains(&field) {
                example == actual
            } else {
                std::mem::discriminant(example) == std::mem::discriminant(actual)
            };
            (!is_same).then(|| format!("{field} is {actual}, and in the example {example}"))
        }
    }
}

#[tokio::test]
async fn every_example_of_the_document_is_true() {
    let world = World::start("document", &[]).await;
    let key = world.key().await;
    let (user, port) = (key.split(':').next().unwrap(), world.public.port().to_string());
    let actual = |line: &str| line.replace("3F9A1C:1", &key).replace("3F9A1C", user).replace("8080", &port);
    let (mut client, greeting) = RawClient::connect(&world.directory.socket("server")).await;
    let (mut is_greeted, mut sent, mut answers) = (false, Vec::new(), 0);
    for line in DOCUMENT.lines() {
        if let Some(request) = line.strip_prefix("→ ") {
            let request = actual(request);
            let fields: Value =
                serde_json::from_str(&request).unwrap_or_else(|error| panic!("{request}: {error}"));
            sent.push(fields["do"].as_str().unwrap().to_owned());
            client.send(&request).await;
            continue;
        }
        let Some(example) = line.strip_prefix("← ") else { continue };
        let example: Value =
            serde_json::from_str(&actual(example)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let answer = if is_greeted {
            loop {
                let answer = client.line().await.unwrap_or_else(|| panic!("no answer like {example}"));
                // Events, also those of the watcher, arrive between the answers.
                if answer["id"] == example["id"]
                    && KINDS.iter().all(|kind| answer[kind].is_null() == example[kind].is_null())
                {
                    break answer;
                }
                assert!(
                    ["event", "changes"].iter().any(|kind| !answer[kind].is_null()),
                    "{answer} instead of {example}"
                );
            }
        } else {
            greeting.clone()
        };
        is_greeted = true;
        answers += 1;
        if let Some(difference) = difference("", &example, &answer) {
            panic!("{difference}\nexample: {example}\nanswer: {answer}");
        }
    }
    println!("{} requests, {answers} answers", sent.len());
    for info in underpass::operator::REQUESTS {
        assert!(sent.iter().any(|name| name == info.name), "{} has no example", info.name);
    }
}
