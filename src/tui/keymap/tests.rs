//! Tests of the binding table and of lookups in it.

use super::*;
use crate::tui::{intent::KillScope, terminal::InputEvent};

const ALL: [InputContext; 13] = [
    InputContext::Streams,
    InputContext::Detail,
    InputContext::Proxies,
    InputContext::Sessions,
    InputContext::Logs,
    InputContext::List,
    InputContext::Screens,
    InputContext::Dialog,
    InputContext::Prompt,
    InputContext::AddProxy,
    InputContext::Columns,
    InputContext::Help,
    InputContext::Anywhere,
];

#[test]
fn no_key_is_bound_twice_in_one_context() {
    for context in ALL {
        let mut keys: Vec<Key> = BINDINGS
            .iter()
            .filter(|binding| binding.context == context)
            .flat_map(|binding| binding.keys.iter().copied())
            .collect();
        let all = keys.len();
        keys.sort_by_key(|key| format!("{key:?}"));
        keys.dedup();
        assert_eq!(keys.len(), all, "{context:?}");
    }
}

/// A key with other modifiers than terminals send would never be recognized.
#[test]
fn every_bound_key_is_one_that_a_terminal_sends() {
    let mut sent: Vec<Vec<u8>> = (1..=0x7F).map(|byte| vec![byte]).collect();
    let finals = ["A", "B", "C", "D", "F", "H", "Z", "3~", "5~", "6~", "20~"];
    sent.extend(finals.iter().map(|end| format!("\x1b[{end}").into_bytes()));
    sent.push(b"\x1bOP".to_vec());
    let mut events = Vec::new();
    for bytes in sent {
        let mut parser = crate::tui::terminal::InputParser::default();
        parser.feed(&bytes, &mut events);
        parser.flush(&mut events);
    }
    for binding in BINDINGS {
        for key in binding.keys {
            assert!(
                events.contains(&InputEvent::Key(*key)),
                "{:?} {}: {key:?}",
                binding.context,
                binding.shown
            );
        }
    }
}

#[test]
fn a_narrow_footer_keeps_acting_and_leaving_longest() {
    let keymap = Keymap::default();
    let words = |width| {
        keymap
            .footer(InputContext::Streams, width, |binding| Some(binding.short))
            .into_iter()
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
    };
    for word in ["kill", "mark", "filter", "sort", "help", "quit"] {
        assert!(words(200).contains(&word), "{word}");
    }
    assert_eq!(words(26), ["kill", "help", "quit"]);
    assert_eq!(words(16), ["kill", "quit"]);
    assert_eq!(words(3), [""; 0]);
}

#[test]
fn the_footer_shows_no_key_that_a_nearer_context_binds() {
    let keymap = Keymap::default();
    for context in ALL {
        for (entry, _) in keymap.footer(context, 500, |binding| Some(binding.short)) {
            let first = entry.keys.first().and_then(|key| keymap.intent(context, *key));
            assert_eq!(first, Some(&entry.binding.intent), "{context:?} {}", entry.shown);
        }
    }
    let shown = keymap.footer(InputContext::Detail, 500, |binding| Some(binding.short));
    let words: Vec<_> = shown.into_iter().map(|(_, word)| word).collect();
    assert!(words.contains(&"back") && !words.contains(&"quit"), "q goes back there: {words:?}");
}

#[test]
fn the_key_that_opens_a_dialog_does_not_confirm_it() {
    let action = |context, key| Keymap::default().intent(context, key);
    assert_eq!(action(InputContext::Dialog, Key::char('x')), None);
    assert_eq!(action(InputContext::Dialog, Key::char('?')), None);
    assert_eq!(action(InputContext::Dialog, Key::ctrl('c')), Some(&Intent::Interrupt));
    assert_eq!(action(InputContext::Help, Key::char('x')), None);
}

#[test]
fn a_read_only_keymap_has_no_binding_that_changes_the_server() {
    let keymap = Keymap::default().for_role(Role::Server).read_only(Role::Server);
    for context in ALL {
        for entry in keymap.of(context) {
            assert_eq!(entry.binding.requires, RequiredCapability::None);
            let acts = matches!(
                entry.binding.intent,
                Intent::AskToKill(_)
                    | Intent::Kill(_)
                    | Intent::KillUser(_)
                    | Intent::AskToKick
                    | Intent::Kick(_)
                    | Intent::Pause(_)
                    | Intent::SetPriority(_)
                    | Intent::AskForLimit
                    | Intent::SetLimit(..)
                    | Intent::Drain(_)
                    | Intent::AskForWeight
                    | Intent::SetWeight(..)
                    | Intent::AskForPolicy
                    | Intent::SetPolicy(..)
                    | Intent::Quit
                    | Intent::Detach
                    | Intent::Suspend
            );
            assert!(!acts);
            assert_ne!(entry.binding.name, "priority");
        }
    }
    for key in ['x', 'p', '+', '-'] {
        assert_eq!(keymap.intent(InputContext::Streams, Key::char(key)), None);
    }
}

#[test]
fn keys_can_be_rebound() {
    let mut keymap = Keymap::default();
    assert_eq!(
        keymap.rebind("kil", &[Key::char('d')], "d").unwrap_err(),
        "unknown action «kil»; did you mean «kill»?"
    );
    assert_eq!(keymap.rebind("kill", &[Key::char('q')], "q").unwrap_err(), "q is already bound to «close»");
    keymap.rebind("kill", &[Key::ctrl('k')], "^k").unwrap();
    assert_eq!(
        keymap.intent(InputContext::Streams, Key::ctrl('k')),
        Some(&Intent::AskToKill(KillScope::Selection))
    );
    assert_eq!(keymap.intent(InputContext::Streams, Key::char('x')), None);
    let shown = keymap.footer(InputContext::Streams, 200, |binding| Some(binding.short));
    assert!(shown.iter().any(|(entry, _)| entry.shown == "^k"));
}
