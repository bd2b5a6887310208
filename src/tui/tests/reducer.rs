//! Tests of the reducer: which keys ask, which send commands, and what notices say about replies and events.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    control::{Command, CommandError, Executed},
    ids::{Priority, ProxyId},
    telemetry::{EndReason, EventKind},
    tui::{
        Exit,
        command_id::CommandId,
        model::Overlay,
        msg::{Effect, Msg},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Three streams with decreasing rates, after enough samples for the table to be sorted by them.
fn three() -> Fixture {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for stream in 1..=3 {
        let index = fixture.open(0xABC123, stream);
        fixture.assign(index, 0);
    }
    for _ in 0..20 {
        for (i, bytes) in [9_000_000, 500_000, 20_000].into_iter().enumerate() {
            fixture.streams[i].stats().add_down(bytes);
        }
        fixture.tick(TICK);
    }
    fixture
}

#[test]
fn a_kill_is_sent_only_after_confirmation() {
    let mut fixture = three();
    assert_eq!(fixture.press("jx"), []);
    assert!(matches!(fixture.model.overlay, Some(Overlay::Dialog(_))));
    assert!(fixture.text().contains("Kill this stream?"), "{}", fixture.text());
    // Cancel has the focus.
    assert_eq!(fixture.press(">"), []);
    assert!(fixture.model.overlay.is_none());
    assert_eq!(fixture.press("xn"), []);
    assert_eq!(fixture.press("x<"), []);
    assert_eq!(fixture.press("xx>"), []);
    let victim = key(0xABC123, 2);
    assert_eq!(fixture.press("xy"), [Effect::SendCommand(CommandId(1), Command::KillStream(victim))]);
    // The kill is pending: the row shows it, and it is not sent twice.
    assert!(fixture.text().contains("kill…"));
    assert_eq!(fixture.press("x"), []);
    assert_eq!(fixture.notice(), "ABC123:2 is already being killed");
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "killed ABC123:2");
    // Pressing the Kill button confirms too.
    assert_eq!(
        fixture.press("jx_>"),
        [Effect::SendCommand(CommandId(2), Command::KillStream(key(0xABC123, 3)))]
    );
    fixture.send(Msg::Replied(CommandId(2), Err(CommandError::NotFound)));
    assert_eq!(fixture.notice(), "ABC123:3 was not killed: the object of the command no longer exists");
    // A command that failed can be repeated.
    assert_eq!(
        fixture.press("xy"),
        [Effect::SendCommand(CommandId(3), Command::KillStream(key(0xABC123, 3)))]
    );
}

#[test]
fn p_pauses_and_resumes_without_confirmation() {
    let mut fixture = three();
    let (first, second, third) = (key(0xABC123, 1), key(0xABC123, 2), key(0xABC123, 3));
    assert_eq!(fixture.press("jp"), [Effect::SendCommand(CommandId(1), Command::PauseStream(second))]);
    assert!(fixture.text().contains("PAUSED"), "{}", fixture.text());
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "paused ABC123:2");
    fixture.streams[1].stats().set_paused(true);
    fixture.tick(TICK);
    assert_eq!(fixture.press(":pause>"), []);
    assert_eq!(fixture.notice(), "ABC123:2 is already paused");
    assert_eq!(fixture.press("p"), [Effect::SendCommand(CommandId(2), Command::ResumeStream(second))]);
    fixture.send(Msg::Replied(CommandId(2), Err(CommandError::NotFound)));
    assert_eq!(fixture.notice(), "ABC123:2 was not resumed: the object of the command no longer exists");
    // The next sample restores the actual state.
    fixture.tick(TICK);
    assert!(fixture.text().contains("PAUSED"));
    // First pauses those marked streams that are not paused; then resumes all of them.
    fixture.press("gmmm");
    let held = fixture.press("p");
    assert_eq!(held.len(), 2);
    assert!(held.contains(&Effect::SendCommand(CommandId(3), Command::PauseStream(first))), "{held:?}");
    assert!(held.contains(&Effect::SendCommand(CommandId(4), Command::PauseStream(third))), "{held:?}");
    assert_eq!(fixture.press(":resume>").len(), 3);
    assert_eq!(fixture.model.streams_screen.marks.len(), 3, "they stay marked");
    for id in 3..=7 {
        fixture.send(Msg::Replied(CommandId(id), Ok(Executed { affected_streams: 1 })));
    }
    assert_eq!(fixture.notice(), "resumed 3 streams");
    fixture.press("<g");
    let gone = fixture.selected().unwrap();
    fixture.end(usize::try_from(gone.stream.0).unwrap() - 1, EndReason::Finished);
    fixture.tick(TICK);
    assert_eq!(fixture.press("p"), []);
    let next = fixture.selected().unwrap();
    assert_eq!(fixture.notice(), format!("{gone} has already ended; {next} is selected now"));
}

#[test]
fn the_priority_is_raised_lowered_and_set_by_name() {
    let mut fixture = three();
    let second = key(0xABC123, 2);
    let order = |id, priority| Effect::SendCommand(CommandId(id), Command::SetPriority(second, priority));
    // The second press starts from the priority of the first one, before its reply.
    assert_eq!(fixture.press("j++"), [order(1, Priority::High), order(2, Priority::Urgent)]);
    assert!(fixture.text().contains("urgent"), "{}", fixture.text());
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "priority of ABC123:2 set to high");
    assert_eq!(fixture.press("+"), []);
    assert_eq!(fixture.notice(), "ABC123:2 already has this priority");
    assert_eq!(fixture.press(">-"), [order(3, Priority::High)], "in the detail");
    assert!(fixture.text().contains("priority  high"), "{}", fixture.text());
    assert_eq!(fixture.press("<:priority ba_>"), [order(4, Priority::Background)]);
    assert_eq!(fixture.press(":priority top>"), []);
    assert_eq!(fixture.notice(), "expected: background|low|normal|high|urgent");
    assert_eq!(fixture.press(":priority>"), []);
    assert_eq!(fixture.notice(), "missing argument; ⇥ completes it");
    fixture.press(":prio_");
    assert!(fixture.text().contains(":priority"), "{}", fixture.text());
    fixture.press("<gmmm");
    assert_eq!(fixture.press("-").len(), 2, "one is the lowest");
}

#[test]
fn a_stream_that_ends_while_the_dialog_is_open_is_not_killed_nor_is_one_with_its_key() {
    let mut fixture = three();
    fixture.press("gx");
    fixture.end(0, EndReason::Finished);
    fixture.tick(TICK);
    assert!(fixture.text().contains("has already ended"));
    fixture.open(0xABC123, 1);
    fixture.tick(TICK);
    assert_eq!(fixture.press("y"), []);
    assert_eq!(fixture.notice(), "ABC123:1 has already ended; nothing was killed");
}

#[test]
fn an_overdue_reply_is_reported_once() {
    let mut fixture = three();
    fixture.press("xy");
    fixture.tick(Duration::from_secs(6));
    assert_eq!(fixture.notice(), "no reply from the server after 5 s: kill stream ABC123:1");
    fixture.tick(Duration::from_secs(7));
    assert_eq!(fixture.notice(), "");
}

#[test]
fn q_asks_for_confirmation_while_streams_are_open() {
    let mut fixture = three();
    assert_eq!(fixture.press("q>"), []);
    assert_eq!(fixture.notice(), "cancelled: the server continues");
    assert_eq!(fixture.press("q_>"), [Effect::Drain]);
    fixture.tick(Duration::from_secs(7));
    assert!(
        fixture.text().contains("draining: 3 streams still open; q asks to end them now"),
        "{}",
        fixture.text()
    );
    assert_eq!(fixture.press("q_>"), [Effect::Exit(Exit::Quit)], "it drains already: that is not offered");
    while !fixture.streams.is_empty() {
        fixture.end(0, EndReason::Finished);
    }
    fixture.tick(TICK);
    assert_eq!(fixture.press("q"), [Effect::Exit(Exit::Quit)]);
}

#[test]
fn a_signal_drains_and_a_second_one_ends_even_over_a_dialog() {
    let mut fixture = three();
    fixture.press("x");
    assert_eq!(fixture.send(Msg::Interrupted), [Effect::Drain]);
    assert_eq!(fixture.send(Msg::Interrupted), [Effect::Exit(Exit::Now)]);
}

/// The operator drains, and the service manager sends its first signal meanwhile: the streams get their time.
#[test]
fn the_first_signal_after_a_drain_by_the_operator_ends_nothing() {
    let mut fixture = three();
    fixture.model.server_status.drain_requested = true;
    assert_eq!(fixture.send(Msg::Interrupted), []);
    assert_eq!(fixture.send(Msg::Interrupted), [Effect::Exit(Exit::Now)]);
}

#[test]
fn the_cursor_stays_with_its_stream_when_rows_are_sorted() {
    let mut fixture = three();
    fixture.press("j");
    assert_eq!(fixture.selected(), Some(key(0xABC123, 2)));
    for _ in 0..30 {
        fixture.streams[1].stats().add_down(50_000_000);
        fixture.tick(TICK);
    }
    assert_eq!(fixture.keys()[0], key(0xABC123, 2), "the fastest comes first");
    assert_eq!(fixture.selected(), Some(key(0xABC123, 2)));
    fixture.press("ss");
    assert_eq!(fixture.selected(), Some(key(0xABC123, 2)));
    fixture.press("G");
    assert_eq!(fixture.selected(), fixture.keys().last().copied());
}

#[test]
fn small_changes_of_rates_move_no_row() {
    let mut fixture = three();
    let order = fixture.keys();
    for tick in 0..100u64 {
        // The second stream is alternately slightly faster and slightly slower than the third.
        fixture.streams[0].stats().add_down(900_000);
        fixture.streams[1].stats().add_down(if tick % 20 < 10 { 46_000 } else { 54_000 });
        fixture.streams[2].stats().add_down(50_000);
        fixture.tick(TICK);
        if tick == 40 {
            assert_eq!(fixture.keys()[0], order[0]);
        }
    }
    let settled = fixture.keys();
    for tick in 0..100u64 {
        fixture.streams[0].stats().add_down(900_000);
        fixture.streams[1].stats().add_down(if tick % 20 < 10 { 46_000 } else { 54_000 });
        fixture.streams[2].stats().add_down(50_000);
        fixture.tick(TICK);
        assert_eq!(fixture.keys(), settled, "{tick}");
    }
}

#[test]
fn ended_streams_move_below_open_ones() {
    let mut fixture = three();
    fixture.press("gx<");
    fixture.end(0, EndReason::TargetSocketError);
    fixture.tick(TICK);
    let gone = key(0xABC123, 1);
    assert_eq!(fixture.keys()[0], gone, "the selected row stays for a moment where the operator sees it");
    let text = fixture.text();
    assert!(text.contains("2 open · 1 ended") && text.contains("target reset"), "{text}");
    fixture.press("j");
    // A row that is not selected moves at once, under every sort key.
    for _ in 0..5 {
        let (opened, other) = (fixture.open(0xABC123, 9), fixture.open(0xABC123, 10));
        fixture.assign(opened, 0);
        fixture.assign(other, 0);
        fixture.tick(TICK);
        fixture.end(opened, EndReason::Finished);
        fixture.tick(TICK);
        assert_open_first(&fixture);
        fixture.press("s");
        assert_open_first(&fixture);
        let last = fixture.streams.len() - 1;
        fixture.end(last, EndReason::Finished);
        fixture.tick(TICK);
    }
    fixture.press("t");
    assert_eq!(fixture.keys().len(), fixture.model.live.streams.open_count());
    fixture.press("t");
    fixture.tick(Duration::from_secs(301));
    assert_eq!(fixture.keys().len(), fixture.model.live.streams.open_count());
}

fn assert_open_first(fixture: &Fixture) {
    let open: Vec<bool> = fixture
        .model
        .rows()
        .iter()
        .filter_map(|id| fixture.model.live.streams.get(*id))
        .map(|row| row.is_live())
        .collect();
    assert!(open.is_sorted_by(|a, b| a >= b), "{open:?}");
}

#[test]
fn marked_streams_are_killed_as_a_batch_and_more_than_ten_need_a_typed_number() {
    let mut fixture = three();
    fixture.press("gmm");
    assert!(fixture.text().contains("2 marked"), "{}", fixture.text());
    // One of them ends while the dialog is open.
    fixture.press("x");
    assert!(fixture.text().contains("Kill these streams?"));
    fixture.end(1, EndReason::Finished);
    fixture.tick(TICK);
    assert_eq!(
        fixture.press("y"),
        [Effect::SendCommand(CommandId(1), Command::KillStream(key(0xABC123, 1)))]
    );
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "killed ABC123:1");
    assert!(fixture.model.streams_screen.marks.is_empty());

    for stream in 20..32 {
        fixture.open(0xDEF456, stream);
    }
    fixture.tick(TICK);
    fixture.press("ssssg");
    for _ in 0..30 {
        let of = fixture.selected().unwrap().user;
        fixture.press(if of == key(0xDEF456, 1).user { "m" } else { "j" });
    }
    assert_eq!(fixture.model.streams_screen.marks.len(), 12);
    fixture.press("x");
    assert!(fixture.text().contains("Type 12 to confirm"), "{}", fixture.text());
    assert_eq!(fixture.press("y"), []);
    assert_eq!(fixture.press("_>"), []);
    assert_eq!(fixture.press("1y"), []);
    assert_eq!(fixture.notice(), "type 12 and press ⏎ to confirm; Esc cancels");
    let orders = fixture.press("2y");
    assert_eq!(orders.len(), 12);
    for order in orders {
        let Effect::SendCommand(id, _) = order else { panic!("{order:?}") };
        fixture.send(Msg::Replied(
            id,
            if id.0 == 5 { Err(CommandError::NotFound) } else { Ok(Executed { affected_streams: 1 }) },
        ));
    }
    assert_eq!(
        fixture.notice(),
        "killed 11 of 12 streams; others failed: the object of the command no longer exists"
    );
}

#[test]
fn a_user_is_killed_and_a_proxy_is_kicked() {
    let mut fixture = three();
    assert_eq!(fixture.press("K>"), []);
    fixture.press("K");
    assert!(fixture.text().contains("Kill this user?") && fixture.text().contains("3 streams open"));
    let user = key(0xABC123, 1).user;
    assert_eq!(fixture.press("y"), [Effect::SendCommand(CommandId(1), Command::KillUser(user))]);
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 3 })));
    assert_eq!(fixture.notice(), "killed user ABC123, 3 streams");
    fixture.press("X");
    assert!(fixture.text().contains("Kick this proxy?") && fixture.text().contains("lab  P1"));
    assert_eq!(fixture.press("y"), [Effect::SendCommand(CommandId(2), Command::KickProxy(ProxyId(1)))]);
    fixture.send(Msg::Replied(CommandId(2), Err(CommandError::ServerStopped)));
    assert_eq!(fixture.notice(), "lab was not kicked: the server has stopped");
}

#[test]
fn a_missed_end_event_leaves_no_open_row() {
    let mut fixture = three();
    fixture.end(0, EndReason::Finished);
    let opened = fixture.open(0xABC123, 9);
    fixture.assign(opened, 0);
    fixture.lose_events();
    fixture.send(Msg::Missed(3));
    assert_eq!(
        fixture.notice(),
        "3 events missed: they came too fast; rows and figures are right all the same"
    );
    for _ in 0..3 {
        fixture.tick(TICK);
    }
    assert_eq!(fixture.model.live.streams.open_count(), 3);
    let text = fixture.text();
    assert!(text.contains("ABC123:9") && text.contains("end unknown"), "{text}");
    assert!(text.contains("! 3 events missed"), "{text}");
}

#[test]
fn an_end_event_after_the_snapshot_still_sets_the_reason() {
    let mut fixture = three();
    fixture.end(0, EndReason::TargetSocketError);
    // The samples arrive before the event, as when the stream ends between event and snapshot.
    for _ in 0..3 {
        fixture.now += TICK;
        fixture.sample();
    }
    assert!(fixture.text().contains("end unknown"));
    fixture.tick(TICK);
    assert!(fixture.text().contains("target reset"), "{}", fixture.text());
    assert_eq!(fixture.model.live.streams.open_count(), 2);
}

#[test]
fn ended_rows_are_bounded_and_dropped_ones_are_counted() {
    let mut fixture = Fixture::empty(120, 36);
    for round in 0..13u32 {
        for stream in 0..100 {
            fixture.open(round, stream + 1);
        }
        // Of so many streams in a second some events are suppressed: two snapshots tell their end.
        fixture.tick(TICK);
        fixture.streams.drain(..).for_each(|stream| stream.end(EndReason::Finished));
        fixture.tick(TICK);
        fixture.tick(TICK);
    }
    assert_eq!(
        (fixture.model.live.streams.ended_count(), fixture.model.live.streams.dropped_count()),
        (1000, 300)
    );
    assert_eq!(fixture.keys().len(), 1000);
    assert!(fixture.text().contains("0 open · 1,000 ended · 300 older dropped"));
}

#[test]
fn rows_of_disconnected_proxies_and_closed_ports_are_bounded() {
    let mut fixture = Fixture::empty(120, 36);
    let ports: Vec<_> =
        (9000..9040).map(|port| fixture.hub.service_opened(port.to_string().parse().unwrap())).collect();
    (0..40).for_each(|number| fixture.proxy(&format!("edge-{number}")));
    fixture.tick(TICK);
    let counts = |fixture: &Fixture| {
        let live = &fixture.model.live;
        (live.proxies.all().len(), live.services.all().len())
    };
    assert_eq!(counts(&fixture), (40, 41));
    fixture.proxies.clear();
    drop(ports);
    fixture.tick(TICK);
    fixture.tick(TICK);
    // The service of the fixture stays open.
    assert_eq!(counts(&fixture), (16, 9));
    fixture.tick(Duration::from_secs(590));
    assert_eq!(counts(&fixture), (16, 9));
    fixture.tick(Duration::from_secs(10));
    assert_eq!(counts(&fixture), (0, 1));
}

#[test]
fn the_counts_on_the_screen_are_those_of_the_rows() {
    let fixture = Fixture::busy(120, 36);
    let live = |id: &_| fixture.model.live.streams.get(*id).is_some_and(|row| row.is_live());
    let rows = fixture.model.rows().iter().filter(|id| live(id)).count();
    assert_eq!(rows, fixture.model.live.streams.open_count());
    assert_eq!(rows as u64, fixture.hub.totals().streams_open);
    let text = fixture.text();
    assert!(text.contains(&format!("{rows} open")), "{text}");
    assert!(text.contains(&format!("{} ended", fixture.model.live.streams.ended_count())), "{text}");
    // The header, the title of the table and the proxies' rows show the same numbers.
    let text = fixture.text();
    assert!(text.lines().next().unwrap().contains(&format!("  {rows} open  ")), "{text}");
    assert!(text.contains(&format!("▎ Streams  {rows} open · 3 ended")), "{text}");
    let of_proxies: u64 = fixture.model.live.proxies.connected().map(|proxy| proxy.streams).sum();
    let shown = |name: &str| -> u64 {
        let row = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        row.split_whitespace().nth(4).unwrap().parse().unwrap()
    };
    assert_eq!(shown("edge-fra") + shown("edge-ams"), of_proxies, "{text}");
}

/// The event was sent before a cockpit attached, or the cockpit was too slow for it.
#[test]
fn a_drain_is_shown_although_its_event_was_missed() {
    let mut fixture = three();
    fixture.hub.emit(EventKind::DrainStarted { open_streams: 3 });
    fixture.lose_events();
    fixture.tick(TICK);
    assert!(fixture.text().contains("draining: 3 streams still open"), "{}", fixture.text());
}

#[test]
fn a_drain_is_shown_whether_started_here_or_not() {
    let mut fixture = three();
    fixture.hub.emit(EventKind::DrainStarted { open_streams: 3 });
    fixture.tick(TICK);
    assert!(fixture.text().contains("draining: 3 streams still open"));
    fixture.hub.emit(EventKind::DrainDeadlineSet { open_streams: 3, within: Duration::from_secs(10) });
    fixture.tick(TICK);
    assert!(fixture.text().contains("draining: 3 streams still open, 10s left"), "{}", fixture.text());
    fixture.tick(Duration::from_secs(4));
    assert!(fixture.text().contains("draining: 3 streams still open, 6s left"), "{}", fixture.text());
}

#[test]
fn the_help_scrolls_and_closes() {
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("?");
    assert!(fixture.text().contains("kill the selected or the marked streams"));
    fixture.press("G");
    assert!(
        fixture.text().contains("peak-ewma")
            && !fixture.text().contains("kill the selected or the marked streams")
    );
    assert_eq!(fixture.press("xjk"), []);
    fixture.press("<");
    assert!(fixture.model.overlay.is_none());
}

#[test]
fn a_terminal_too_small_for_a_dialog_closes_it() {
    let mut fixture = three();
    fixture.press("jx");
    fixture.resize(20, 4);
    assert_eq!(fixture.press("y"), []);
    assert_eq!(fixture.press("xy"), []);
    fixture.press("q");
    assert!(fixture.text().contains("quit? [Cancel] ⇥"), "{}", fixture.text());
    assert_eq!(fixture.press("__"), []);
    assert!(fixture.text().contains("quit? [Quit now] ⇥"), "{}", fixture.text());
    assert_eq!(fixture.press(">"), [Effect::Exit(Exit::Quit)]);
}
