//! What the last word of a command line names, and which candidates continue it.

use super::*;

/// Understands a line, which ends where the cursor is.
fn typed(line: &str) -> Option<Typed> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    Typed::parse(&CliArgs::command(), &words)
}

#[test]
fn each_argument_of_a_command_names_what_it_acts_on() {
    for (line, expected) in [
        ("kill ", Some(Kind::StreamsAndUsers)),
        ("kill 3F9A1C:1 ", Some(Kind::StreamsAndUsers)),
        ("pause 3F", Some(Kind::Streams)),
        ("priority hi", Some(Kind::Priorities)),
        ("priority high ", Some(Kind::Streams)),
        ("limit ", Some(Kind::Targets)),
        ("limit edge-1 do", Some(Kind::LimitWords)),
        ("kick --control server ", Some(Kind::Proxies)),
        ("kick --control ", Some(Kind::Instances)),
        ("weight ", Some(Kind::Proxies)),
        ("weight edge-1 ", None),
        ("policy 8080 ", Some(Kind::Policies)),
        ("kill -f ", None),
        ("kill --filter proxy=edge ", Some(Kind::StreamsAndUsers)),
        ("kill --fi", None),
        ("attach ", Some(Kind::Instances)),
        ("attach ssh ", None),
        ("server ", None),
        ("no-such-command ", None),
        ("kill", None),
    ] {
        assert_eq!(typed(line).map(|typed| typed.kind), expected, "{line}");
    }
    assert_eq!(typed("kick --control=other P").unwrap().control.as_deref(), Some("other"));
    assert_eq!(typed("kick --control other P").unwrap().control.as_deref(), Some("other"));
}

#[test]
fn candidates_continue_the_word_are_not_named_twice_and_are_bounded() {
    let found = |values: &[&str]| values.iter().map(|value| candidate(value, "")).collect::<Vec<_>>();
    let values = |typed: &Typed, found| -> Vec<String> {
        select(typed, found).into_iter().map(|candidate| candidate.value).collect()
    };
    let all = ["3F9A1C:1", "3F9A1C:2", "A03F9A:1", "3F9A1C"];
    assert_eq!(values(&typed("kill 3f").unwrap(), found(&all)), ["3F9A1C:1", "3F9A1C:2", "3F9A1C"]);
    assert_eq!(values(&typed("kill 3F9A1C:2 3F9A1C:").unwrap(), found(&all)), ["3F9A1C:1"]);
    let many: Vec<Candidate> = (0..1000).map(|n| candidate(&format!("3F9A1C:{n}"), "")).collect();
    assert_eq!(values(&typed("kill ").unwrap(), many).len(), MAX_CANDIDATES);
}
