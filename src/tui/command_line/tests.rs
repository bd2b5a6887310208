//! Tests of the translation of typed lines into intents.

use super::*;

use crate::{
    control::{Capabilities, LimitChange},
    ids::{Direction, Policy, Priority, Rate},
    tui::{
        columns::StreamColumn,
        intent::{DrainChange, KillScope},
    },
};

fn parsed(context: InputContext, line: &str) -> Result<Intent, String> {
    parse(&Keymap::default(), context, line)
}

#[test]
fn a_line_becomes_the_intent_that_a_key_has() {
    let rate = |text: &str| text.parse::<Rate>().ok();
    for (context, line, intent) in [
        (InputContext::Streams, "kill", Intent::AskToKill(KillScope::Selection)),
        (InputContext::Streams, "q", Intent::Quit),
        (
            InputContext::Streams,
            "sort age",
            Intent::SetSort(Sort { by: SortBy::Column(StreamColumn::Age), reversed: false }),
        ),
        (InputContext::Streams, "window 5m", Intent::SetChartWindow(2)),
        (InputContext::Detail, "priority high", Intent::SetPriority(PriorityChange::Set(Priority::High))),
        (
            InputContext::Streams,
            "limit down 10M up off",
            Intent::SetLimit(
                None,
                vec![
                    LimitChange { direction: Direction::Down, rate: rate("10M") },
                    LimitChange { direction: Direction::Up, rate: None },
                ],
            ),
        ),
        (InputContext::Streams, "limit", Intent::AskForLimit),
        (InputContext::Proxies, "drain", Intent::Drain(DrainChange::Start)),
        (InputContext::Proxies, "weight 7", Intent::SetWeight(None, 7)),
        (InputContext::Proxies, "policy least", Intent::SetPolicy(None, Policy::LeastStreams)),
    ] {
        assert_eq!(parsed(context, line), Ok(intent), "{line}");
    }
}

#[test]
fn an_invalid_line_says_what_is_expected() {
    for (line, message) in [
        ("sort", "missing argument; ⇥ completes it"),
        ("load all", "expected: streams|bytes"),
        (
            "limit sideways 1M",
            "invalid rate: expected a number of bytes per second, like 10M (10,000,000), 10MiB, 500K or 800 \
             (down|up RATE, RATE, or off)",
        ),
        ("limit down", "missing argument: down RATE, or down off"),
        ("kil", "unknown command «kil»; did you mean «kill»?"),
        ("weight 5", "weight has no effect here; it works on: 2 Proxies"),
    ] {
        assert_eq!(parsed(InputContext::Streams, line), Err(message.to_owned()), "{line}");
    }
}

/// `:drain edge-2` must not drain edge-1 because that is selected.
#[test]
fn a_command_about_what_is_selected_accepts_no_name() {
    for (context, lines) in [
        (InputContext::Streams, ["kill 3F9A1C:2", "pause 3F9A1C:2", "resume 3F9A1C:2", "kill-user 3F9A1C"]),
        (InputContext::Proxies, ["drain edge-2", "undrain edge-2", "kick edge-2", "drain P2"]),
    ] {
        for line in lines {
            let name = line.split(' ').next().unwrap();
            let message = format!("{name} takes no argument: it acts on what is selected or marked");
            assert_eq!(parsed(context, line), Err(message), "{line}");
            assert!(parsed(context, name).is_ok(), "{name}");
        }
    }
    for line in ["help kill", "q now", "q! now"] {
        assert!(parsed(InputContext::Streams, line).unwrap_err().contains("takes no argument"), "{line}");
    }
}

#[test]
fn a_read_only_command_line_changes_nothing_on_the_server() {
    let keymap = Keymap::default().restricted_to(Capabilities::none());
    for line in ["kill", "priority high", "limit down 1M", "weight 5", "policy weighted", "drain", "kick"] {
        for context in [InputContext::Streams, InputContext::Proxies] {
            assert!(parse(&keymap, context, line).is_err(), "{line}");
        }
    }
}

#[test]
fn a_network_is_banned_unless_the_cockpit_is_read_only() {
    let network = "192.0.2.0/24".parse().unwrap();
    assert_eq!(parsed(InputContext::Streams, "ban 192.0.2.0/24"), Ok(Intent::Ban(network)));
    assert_eq!(parsed(InputContext::Proxies, "unban  192.0.2.0/24"), Ok(Intent::Unban(network)));
    let error = parsed(InputContext::Streams, "ban 192.0.2.1/24").unwrap_err();
    assert!(error.contains("the network is 192.0.2.0/24"), "{error}");
    let error =
        parse(&Keymap::default().read_only(crate::tui::Role::Server), InputContext::Streams, "ban 192.0.2.1")
            .unwrap_err();
    assert!(error.contains("read-only"), "{error}");
}

#[test]
fn an_address_is_unblocked_by_any_address_of_its_block_unless_the_cockpit_is_read_only() {
    let block = "2001:db8::/64".parse().unwrap();
    for line in ["unblock 2001:db8::/64", "unblock  2001:db8::7"] {
        assert_eq!(parsed(InputContext::Proxies, line), Ok(Intent::Unblock(block)));
    }
    assert!(parsed(InputContext::Proxies, "unblock host").unwrap_err().contains("expected 192.0.2.1"));
    assert_eq!(parsed(InputContext::Proxies, "unblock"), Ok(Intent::MissingArgument));
    let keymap = Keymap::default().read_only(crate::tui::Role::Server);
    let error = parse(&keymap, InputContext::Proxies, "unblock 192.0.2.1").unwrap_err();
    assert!(error.contains("read-only"), "{error}");
}
