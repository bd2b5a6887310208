//! The streams table: its order, its columns, and acts on all that it shows.

use std::time::Duration;

use super::fixture::Fixture;
use crate::{
    control::{Command, CommandError, Executed},
    ids::{Priority, StreamKey},
    telemetry::EndReason,
    tui::{
        command_id::CommandId,
        model::{Overlay, StreamRow},
        msg::{Effect, Msg},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// The headings of the table.
fn head(fixture: &Fixture) -> String {
    fixture.text().lines().find(|line| line.contains("STREAM")).unwrap().to_owned()
}

fn live_rows(fixture: &Fixture) -> Vec<StreamRow<'_>> {
    let rows = fixture.model.rows().iter().filter_map(|id| fixture.model.live.streams.get(*id));
    rows.filter(|row| row.is_live()).collect()
}

#[test]
fn s_sorts_by_the_next_column_on_the_screen() {
    let mut fixture = Fixture::busy(120, 36);
    let marked = |fixture: &Fixture| {
        let head = head(fixture);
        let word = head.split_whitespace().find(|word| word.ends_with(['▾', '▴']));
        word.unwrap().trim_end_matches(['▾', '▴']).to_owned()
    };
    let columns: Vec<String> =
        head(&fixture).replace("USER ", "").split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        columns,
        ["STREAM", "STATE", "PROXY", "ADDRESS", "CONTENT", "PRIO", "UP/s", "DOWN/s▾", "PROGRESS", "AGE"]
    );
    for wanted in
        ["PROGRESS", "AGE", "STREAM", "STATE", "PROXY", "ADDRESS", "CONTENT", "PRIO", "UP/s", "DOWN/s"]
    {
        fixture.press("s");
        assert_eq!(marked(&fixture), wanted);
    }
    fixture.press("S");
    assert_eq!(marked(&fixture), "UP/s");
    // Where the sorted column does not fit, the title still names it.
    fixture.press(":sort service>");
    assert!(fixture.text().contains("sort service ▴"), "{}", fixture.text());
    fixture.press("s");
    assert_eq!(marked(&fixture), "STREAM");
}

#[test]
fn every_sort_key_sorts_by_the_values_of_its_column() {
    let mut fixture = Fixture::busy(120, 36);
    for i in 0..3 {
        fixture.open(0xDEF456, i + 1);
    }
    fixture.tick(TICK);
    fn sorted<T: PartialOrd>(fixture: &Fixture, of: impl Fn(&StreamRow) -> T) -> bool {
        live_rows(fixture).iter().map(of).is_sorted()
    }
    let mut check = |name: &str, is: &dyn Fn(&Fixture) -> bool, reversed: &dyn Fn(&Fixture) -> bool| {
        fixture.press(&format!(":sort {name}>"));
        assert!(is(&fixture), "{name}");
        assert!(!reversed(&fixture), "{name}: there is nothing to tell them apart");
        fixture.press("r");
        assert!(reversed(&fixture), "{name} reversed");
        assert!(live_rows(&fixture).len() > 30);
    };
    use std::cmp::Reverse;
    check("priority", &|f| sorted(f, |r| Reverse(r.priority)), &|f| sorted(f, |r| r.priority));
    check("proxy", &|f| sorted(f, |r| r.proxy.map_or(9, |p| p.0)), &|f| {
        sorted(f, |r| Reverse(r.proxy.map_or(9, |p| p.0)))
    });
    check("user", &|f| sorted(f, |r| r.addr), &|f| sorted(f, |r| Reverse(r.addr)));
    check("down-bytes", &|f| sorted(f, |r| Reverse(r.counters.down)), &|f| sorted(f, |r| r.counters.down));
    check("up-bytes", &|f| sorted(f, |r| Reverse(r.counters.up)), &|f| sorted(f, |r| r.counters.up));
    check("bytes", &|f| sorted(f, |r| Reverse(r.bytes())), &|f| sorted(f, |r| r.bytes()));
    check("key", &|f| sorted(f, |r| (r.key.user, r.key.stream)), &|f| {
        sorted(f, |r| Reverse((r.key.user, r.key.stream)))
    });
    let share = |r: &StreamRow| (r.progress().unwrap_or(-1.0) * 1e6) as i64;
    check("progress", &|f| sorted(f, |r| -share(r)), &|f| sorted(f, share));
    let kind = |r: &StreamRow| match r.content.as_ref().map(ToString::to_string).as_deref() {
        Some("TCP") => 3,
        Some("SSH") => 2,
        Some(text) if text.starts_with("TLS") => 1,
        Some(_) => 0,
        None => 4,
    };
    check("content", &|f| sorted(f, |r| kind(r)), &|f| sorted(f, |r| Reverse(kind(r))));
    let waits = |r: &StreamRow| crate::tui::model::state_name(*r) != "wait";
    check("state", &|f| sorted(f, waits), &|f| sorted(f, |r| !waits(r)));
    let channel =
        |r: &StreamRow| r.channel.map_or(u64::MAX, |id| u64::from(id.proxy.0) << 16 | u64::from(id.index));
    check("channel", &|f| sorted(f, channel), &|f| sorted(f, |r| Reverse(channel(r))));
}

#[test]
fn every_column_can_be_shown_and_hidden_at_120_columns() {
    let mut fixture = Fixture::busy(120, 36);
    let (service, channel, up, down) = (2, 4, 11, 12);
    // A new column may displace another one: in the second round all of them are asked for.
    let wanted = [(service, "SERVICE"), (channel, " CHANNEL "), (up, " UP "), (down, " DOWN ")];
    for (at, name) in wanted.into_iter().chain(wanted) {
        if !head(&fixture).contains(name) {
            fixture.press(&format!("o{} <", "j".repeat(at)));
        }
        assert!(head(&fixture).contains(name), "{name}: {}", head(&fixture));
    }
    // All four together.
    for name in ["SERVICE", " CHANNEL ", " UP ", " DOWN "] {
        assert!(head(&fixture).contains(name), "{name}: {}", head(&fixture));
    }
    fixture.press("ojj");
    let Some(Overlay::Columns { focus }) = fixture.model.overlay else { panic!("the list is open") };
    assert_eq!(focus, service);
    fixture.press(" ");
    assert!(
        fixture.text().contains("[ ] service") && !fixture.text().contains("SERVICE"),
        "{}",
        fixture.text()
    );
    assert!(fixture.text().contains("no room"), "{}", fixture.text());
    // The key column cannot be hidden, and keys do not act on the screen behind the list.
    assert_eq!(fixture.press("g xKA"), []);
    assert!(fixture.text().contains("[x] stream"));
    fixture.press("r<");
    assert!(!head(&fixture).contains(" UP ") && head(&fixture).contains("CONTENT"), "{}", head(&fixture));
}

#[test]
fn kill_shown_kills_the_listed_streams_and_none_that_opened_later() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("/");
    fixture.type_in("down>1M");
    fixture.press(">");
    let shown: Vec<StreamKey> = live_rows(&fixture).iter().map(|row| row.key).collect();
    assert_eq!(shown.len(), 5);
    fixture.press("A");
    assert!(fixture.text().contains("5 open streams"), "{}", fixture.text());
    // One ends, and another one opens that passes the filter too.
    let first = fixture.streams.iter().position(|stream| stream.stats().key == shown[0]).unwrap();
    fixture.end(first, EndReason::Finished);
    let late = fixture.open(0xDEF456, 1);
    fixture.assign(late, 0);
    for _ in 0..20 {
        fixture.streams.last().unwrap().stats().add_down(9_000_000);
        fixture.tick(TICK);
    }
    assert!(live_rows(&fixture).iter().any(|row| row.key == super::fixture::key(0xDEF456, 1)));
    let mut killed: Vec<StreamKey> = fixture
        .press("y")
        .into_iter()
        .map(|effect| match effect {
            Effect::SendCommand(_, Command::KillStream(key)) => key,
            other => panic!("{other:?}"),
        })
        .collect();
    killed.sort_unstable();
    let mut wanted = shown[1..].to_vec();
    wanted.sort_unstable();
    assert_eq!(killed, wanted);
    // Without a filter all streams are listed, and their number has to be typed.
    fixture.press("<:kill-shown>");
    let open = live_rows(&fixture).len() - 4;
    assert!(fixture.text().contains(&format!("Type {open} to confirm")), "{}", fixture.text());
    assert_eq!(fixture.press("y>"), []);
    fixture.press("</no-such-thing>");
    assert_eq!(fixture.press("A"), []);
    assert_eq!(fixture.notice(), "no open stream is listed");
}

/// A command queue with few slots, which replies when the test asks it to.
struct Room {
    slots: usize,
    held: Vec<CommandId>,
    taken: Vec<(CommandId, Command)>,
}

impl Room {
    fn take(&mut self, fixture: &mut Fixture, effects: Vec<Effect>) {
        let mut effects = std::collections::VecDeque::from(effects);
        // As in the runtime: commands after one that did not fit must wait too.
        let mut busy = false;
        while let Some(effect) = effects.pop_front() {
            let Effect::SendCommand(id, command) = effect else { continue };
            busy |= self.held.len() >= self.slots;
            if busy {
                effects.extend(fixture.send(Msg::Replied(id, Err(CommandError::QueueFull))));
            } else {
                self.held.push(id);
                self.taken.push((id, command));
            }
        }
    }

    fn answer(&mut self, fixture: &mut Fixture) {
        for id in std::mem::take(&mut self.held) {
            let more = fixture.send(Msg::Replied(id, Ok(Executed { affected_streams: 1 })));
            self.take(fixture, more);
        }
    }
}

#[test]
fn a_batch_is_sent_in_order_through_a_full_queue_and_loses_nothing() {
    const MANY: u32 = 1000;
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for stream in 1..=MANY {
        let index = fixture.open(0xABC123, stream);
        fixture.assign(index, 0);
        fixture.streams[index].stats().set_priority(Priority::Normal);
    }
    fixture.tick(TICK);
    let mut room = Room { slots: 20, held: Vec::new(), taken: Vec::new() };
    fixture.press(":mark-shown>");
    let effects = fixture.press("+");
    assert!(effects.len() < 64, "{} at once", effects.len());
    room.take(&mut fixture, effects);
    // A second batch is refused; a single command is queued behind the first one.
    assert_eq!(fixture.press("-"), []);
    assert!(fixture.notice().contains("still queued"), "{}", fixture.notice());
    let effects = fixture.press("Mgp");
    room.take(&mut fixture, effects);
    while room.taken.len() < MANY as usize + 1 {
        let before = room.taken.len();
        room.answer(&mut fixture);
        if room.held.is_empty() {
            // No command awaits a reply: the next sample sends again.
            let effects = fixture.sample();
            room.take(&mut fixture, effects);
        }
        assert!(room.taken.len() > before, "stuck after {before} of {MANY}");
        if room.taken.len() < MANY as usize {
            assert!(!fixture.notice().contains("raised"), "one word at the end");
        }
    }
    room.answer(&mut fixture);
    assert_eq!(fixture.notice(), format!("paused {}", fixture.selected().unwrap()));
    assert!(room.taken.is_sorted_by_key(|(id, _)| *id), "in the order in which they were given");
    let mut raised: Vec<u32> = room.taken[..MANY as usize]
        .iter()
        .map(|(_, command)| match command {
            Command::SetPriority(key, Priority::High) => key.stream.0,
            other => panic!("{other:?}"),
        })
        .collect();
    raised.sort_unstable();
    assert_eq!(raised, (1..=MANY).collect::<Vec<_>>(), "each of them once");
}

#[test]
fn a_command_is_refused_while_64_others_wait() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    let index = fixture.open(0xABC123, 1);
    fixture.assign(index, 0);
    fixture.tick(TICK);
    let mut room = Room { slots: 0, held: Vec::new(), taken: Vec::new() };
    let mut press = |fixture: &mut Fixture| {
        let effects = fixture.press("p");
        room.take(fixture, effects);
        fixture.notice().contains("still queued")
    };
    for number in 1..=64 {
        assert!(!press(&mut fixture), "command {number}: {}", fixture.notice());
    }
    assert!(press(&mut fixture), "{}", fixture.notice());
}

#[test]
fn no_command_is_sent_for_a_stream_that_ended_while_it_was_queued() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for stream in 1..=100 {
        let index = fixture.open(0xABC123, stream);
        fixture.assign(index, 0);
    }
    fixture.tick(TICK);
    fixture.press("A100");
    let mut sent = fixture.press("y");
    let unsent = 100 - sent.len();
    assert!(unsent > 0);
    // All end; a new stream gets one of their keys.
    while !fixture.streams.is_empty() {
        fixture.end(0, EndReason::Finished);
    }
    fixture.tick(TICK);
    fixture.open(0xABC123, 100);
    fixture.tick(TICK);
    let mut orders = 0;
    while let Some(effect) = sent.pop() {
        let Effect::SendCommand(id, Command::KillStream(_)) = effect else { panic!("{effect:?}") };
        orders += 1;
        sent.extend(fixture.send(Msg::Replied(id, Ok(Executed { affected_streams: 1 }))));
    }
    assert_eq!(orders, 100 - unsent);
    let told =
        format!("killed {orders} of 100 streams; others failed: the object of the command no longer exists");
    assert_eq!(fixture.notice(), told);
}
