//! Property test: under any sequence of events, samples and keys, a confirmed kill names the stream that was shown; and
//! a screen without room for a dialog names its question.

use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{Fixture, key};
use crate::{
    control::Command,
    ids::{ProxyId, StreamKey},
    telemetry::EndReason,
    tui::{
        model::{Confirmation, Dialog, KillTarget, Overlay},
        msg::Effect,
    },
};

/// One step of a generated script: traffic, time, or a key of the operator.
#[derive(Debug, Clone)]
enum ScriptStep {
    Open { user: u32, stream: u32 },
    End(usize),
    Carry { index: usize, bytes: u64 },
    Pass { ms: u64, lose_events: bool },
    Press(char),
}

fn step() -> impl Strategy<Value = ScriptStep> {
    prop_oneof![
        // Few users and numbers, so that stream keys are used again.
        3 => (0..3u32, 1..4u32).prop_map(|(user, stream)| ScriptStep::Open { user, stream }),
        2 => any::<usize>().prop_map(ScriptStep::End),
        3 => (any::<usize>(), 0..10_000_000u64).prop_map(|(index, bytes)| ScriptStep::Carry { index, bytes }),
        4 => (1..2000u64, prop::bool::weighted(0.1))
            .prop_map(|(ms, lose_events)| ScriptStep::Pass { ms, lose_events }),
        6 => prop::sample::select(vec!['j', 'k', 'g', 'G', 's', 'r', 't', 'x', 'y', '>', '_', 'n', '<', '?'])
            .prop_map(ScriptStep::Press),
    ]
}

/// The key that the open kill dialog shows, and the serial number of its row, which tells streams with the same key
/// apart.
fn named(fixture: &Fixture) -> Option<(StreamKey, u64)> {
    match &fixture.model.overlay {
        Some(Overlay::Dialog(dialog)) => match &dialog.question {
            Confirmation::Kill(targets) => targets.first().map(|target| (target.key, target.row.serial)),
            _ => None,
        },
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 128 } else { 1024 }))]

    /// Whatever moves, comes, ends or comes back: an order names the stream that the dialog showed, that was the
    /// selected one when the dialog opened, and that is still the same stream.
    #[test]
    fn the_killed_stream_is_the_one_that_the_dialog_shows(steps in proptest::collection::vec(step(), 1..80)) {
        let mut fixture = Fixture::empty(100, 30);
        for step in steps {
            match step {
                ScriptStep::Open { user, stream } => {
                    // A server never has two open streams with one key.
                    if !fixture.streams.iter().any(|open| open.stats().key == key(user, stream)) {
                        fixture.open(user, stream);
                    }
                }
                ScriptStep::End(index) if !fixture.streams.is_empty() => {
                    let index = index % fixture.streams.len();
                    fixture.end(index, EndReason::Finished);
                }
                ScriptStep::Carry { index, bytes } if !fixture.streams.is_empty() => {
                    let index = index % fixture.streams.len();
                    fixture.streams[index].stats().add_down(bytes);
                }
                ScriptStep::Pass { ms, lose_events } => {
                    if lose_events {
                        fixture.lose_events();
                    }
                    fixture.tick(Duration::from_millis(ms));
                }
                ScriptStep::Press(c) => {
                    let selected = fixture.model.selected().map(|(id, row)| (row.key, id.serial));
                    let shown = named(&fixture);
                    if shown.is_some() {
                        let name = shown.map(|(key, _)| key.to_string()).unwrap_or_default();
                        prop_assert!(fixture.text().contains(&name), "the dialog shows its target");
                    }
                    let effects = fixture.press(&c.to_string());
                    for effect in effects {
                        if let Effect::SendCommand(_, Command::KillStream(killed)) = effect {
                            let (key, serial) = shown.expect("no order without a dialog");
                            prop_assert_eq!(killed, key);
                            let (id, _) = fixture.model.selected().expect("the row is there");
                            let target = fixture.model.live.streams.find(key).expect("the row is there");
                            prop_assert_eq!(target.serial, serial, "a later stream has the key (selected: {:?})", id);
                        }
                    }
                    if shown.is_none() && let Some(opened) = named(&fixture) {
                        prop_assert_eq!(Some(opened), selected, "the dialog is about the selected row");
                    }
                }
                ScriptStep::End(_) | ScriptStep::Carry { .. } => {}
            }
            // The selected row is visible.
            if let Some((_, row)) = fixture.model.selected() {
                prop_assert!(fixture.keys().contains(&row.key));
            }
        }
    }
}

#[test]
fn a_terminal_too_small_for_a_dialog_names_its_question() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.resize(20, 4);
    let row = fixture.model.live.streams.order()[0];
    let (key, streams) = (fixture.model.live.streams.get(row).unwrap().key, 3);
    let user = key.user;
    let questions = [
        (Confirmation::Kill(vec![KillTarget { row, key }]), "kill? [Cancel]"),
        (Confirmation::KillUser { user, streams }, "kill user? [Cancel]"),
        (Confirmation::Kick { proxy: ProxyId(1), streams }, "kick? [Cancel]"),
        (Confirmation::Quit { drain_timeout: None }, "quit? [Cancel]"),
    ];
    for (question, expected) in questions {
        fixture.model.overlay = Some(Overlay::Dialog(Dialog::new(question, fixture.now)));
        assert!(fixture.text().contains(expected), "{expected}: {}", fixture.text());
    }
}
