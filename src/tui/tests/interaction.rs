//! Interaction: filters, freezing, the detail screen, prompts, the mouse and the log.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    control::{Capabilities, Command},
    ids::ProxyId,
    telemetry::{EndReason, LogLevel, LogRecord},
    tui::{
        RawSettings,
        columns::StreamColumn,
        command_id::CommandId,
        keymap::InputContext,
        model::{Overlay, ScreenId, SortBy},
        msg::{Effect, Msg},
        terminal::{Key, KeyCode, MouseEvent},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Opens a prompt with the keys `opens`, types `text` and confirms.
fn enter(fixture: &mut Fixture, opens: &str, text: &str) {
    fixture.press(opens);
    fixture.type_in(text);
    fixture.press(">");
}

#[test]
fn a_filter_shows_matching_streams_and_escape_clears_it() {
    let mut fixture = Fixture::busy(120, 36);
    let all = fixture.keys().len();
    let shown = |fixture: &mut Fixture, text: &str| {
        enter(fixture, "/", text);
        let keys = fixture.keys().len();
        assert_eq!(fixture.model.streams_screen.filter.text(), text);
        fixture.press("<");
        assert_eq!(fixture.keys().len(), all, "Escape clears the filter");
        keys
    };
    let fra = shown(&mut fixture, "proxy:fra");
    assert!(fra > 0 && fra < all);
    assert_eq!(shown(&mut fixture, "!proxy:fra") + fra, all);
    assert_eq!(shown(&mut fixture, "down>1M"), 5);
    assert_eq!(shown(&mut fixture, "down>1M proxy:fra") + shown(&mut fixture, "down>1M !proxy:fra"), 5);
    assert_eq!(shown(&mut fixture, "key:133A6E:1"), 1);
    assert_eq!(shown(&mut fixture, "/^133A6E:[12]$/"), 2);
    assert_eq!(shown(&mut fixture, "state:killed"), 1);
    assert_eq!(shown(&mut fixture, "state:paused"), 2);
    assert_eq!(shown(&mut fixture, "content:image-13"), 1);
    assert!(shown(&mut fixture, "content:ssh") == shown(&mut fixture, "SSH"));
    assert_eq!(shown(&mut fixture, "pri:urgent"), 3);
    assert_eq!(shown(&mut fixture, "age<1h"), all);
    assert_eq!(shown(&mut fixture, "nothing-like-this"), 0);
}

#[test]
fn a_filter_applies_while_it_is_typed_and_its_errors_are_shown() {
    let mut fixture = Fixture::busy(120, 36);
    let all = fixture.keys().len();
    fixture.type_in("/down>1M");
    assert_eq!(fixture.keys().len(), 5);
    assert_eq!(fixture.model.context(), InputContext::Prompt);
    fixture.press("x");
    assert!(fixture.text().contains("invalid value"), "{}", fixture.text());
    assert_eq!(fixture.keys().len(), 5, "the last valid filter stays");
    assert_eq!(fixture.press(">"), []);
    assert!(fixture.model.overlay.is_some(), "an invalid filter is not accepted");
    fixture.press("<");
    assert_eq!(fixture.keys().len(), all);
    // In a prompt keys are characters and trigger no action.
    assert_eq!(fixture.press("/xyqK?"), []);
    assert!(fixture.text().contains("No stream matches the filter"));
    fixture.press("<");
    fixture.press("/pro_");
    assert!(fixture.text().contains("/proxy:"), "{}", fixture.text());
}

/// A filter that matched nothing for a moment left the first row selected, and `p` then paused another user's stream.
#[test]
fn a_cancelled_filter_keeps_the_selected_stream() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("jjj");
    let selected = fixture.selected();
    fixture.press("/zzz");
    assert_eq!(fixture.selected(), None);
    fixture.press("<");
    assert_eq!(fixture.selected(), selected);
}

#[test]
fn a_frozen_display_does_not_change_and_loses_no_data() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("j ");
    let before: Vec<String> = fixture.text().lines().skip(12).take(14).map(str::to_owned).collect();
    let selected = fixture.selected();
    for _ in 0..30 {
        for stream in &fixture.streams {
            stream.stats().add_down(3_000_000);
        }
        fixture.tick(TICK);
    }
    fixture.end(3, EndReason::Finished);
    fixture.tick(TICK);
    let text = fixture.text();
    let after: Vec<String> = text.lines().skip(12).take(14).map(str::to_owned).collect();
    assert_eq!(before, after, "the rows do not change");
    assert!(text.contains("FROZEN 3s"), "{text}");
    assert_eq!(fixture.selected(), selected);
    // A stream that has ended meanwhile cannot be killed, although the frozen display shows it as open.
    assert_eq!(fixture.model.live.streams.open_count() + 1, fixture.model.shown().streams.open_count());
    fixture.press(" ");
    assert_eq!(fixture.model.shown().streams.open_count(), fixture.streams.len());
    assert!(!fixture.text().contains("FROZEN"));
}

#[test]
fn actions_on_an_ended_stream_are_not_offered() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("j>");
    let footer = |fixture: &Fixture| fixture.text().lines().last().unwrap().to_owned();
    let acts = ["x kill", "p pause", "+ priority", "l limit"];
    assert!(acts.iter().all(|act| footer(&fixture).contains(act)), "{}", footer(&fixture));
    let key = fixture.selected().unwrap();
    let index = fixture.streams.iter().position(|stream| stream.stats().key == key).unwrap();
    fixture.end(index, EndReason::Finished);
    fixture.tick(TICK);
    assert!(!acts.iter().any(|act| footer(&fixture).contains(act)), "{}", footer(&fixture));
    assert!(footer(&fixture).contains("Esc back"));
    // The last row of the table has ended, too; a mark is about another row.
    fixture.press("<G");
    assert!(!acts.iter().any(|act| footer(&fixture).contains(act)), "{}", footer(&fixture));
    fixture.press("gmG");
    assert!(footer(&fixture).contains("x kill"), "{}", footer(&fixture));
}

#[test]
fn the_detail_screen_shows_a_stream_and_can_kill_it() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("j>");
    let victim = fixture.selected().unwrap();
    for _ in 0..20 {
        fixture.tick(TICK);
    }
    let text = fixture.text();
    for part in
        [victim.to_string().as_str(), "PEAK", "opened by", "assigned to", "round-robin among", "Throughput"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    fixture.press("x");
    assert_eq!(fixture.press("y"), [Effect::SendCommand(CommandId(1), Command::KillStream(victim))]);
    assert!(fixture.model.detail_screen.open.is_some());
    // The next stream, without leaving the detail screen.
    fixture.press("j");
    assert_ne!(fixture.model.detail_screen.open.as_ref().unwrap().key, victim);
    fixture.press("<");
    assert!(fixture.model.detail_screen.open.is_none() && fixture.model.screen == ScreenId::Streams);
}

#[test]
fn escape_closes_one_layer_at_a_time_and_never_quits() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("m");
    enter(&mut fixture, "/", "open");
    fixture.press(">?");
    assert!(matches!(fixture.model.overlay, Some(Overlay::Help { .. })));
    fixture.press("<");
    assert!(fixture.model.overlay.is_none() && fixture.model.detail_screen.open.is_some());
    fixture.press("<");
    assert!(fixture.model.detail_screen.open.is_none() && !fixture.model.streams_screen.filter.is_empty());
    fixture.press("<");
    assert!(fixture.model.streams_screen.filter.is_empty() && !fixture.model.streams_screen.marks.is_empty());
    fixture.press("<");
    assert!(fixture.model.streams_screen.marks.is_empty());
    assert_eq!(fixture.press("<<<"), []);
}

#[test]
fn commands_run_by_name_complete_and_suggest() {
    let mut fixture = Fixture::busy(120, 36);
    enter(&mut fixture, ":", "sort age");
    assert_eq!(fixture.model.shown().streams.sort().by, SortBy::Column(StreamColumn::Age));
    fixture.press(":so_");
    assert!(fixture.text().contains(":sort"), "{}", fixture.text());
    fixture.press("<:theme li_>");
    assert_eq!(fixture.model.theme, crate::tui::theme::Theme::light());
    enter(&mut fixture, ":", "kil");
    assert_eq!(fixture.notice(), "unknown command «kil»; did you mean «kill»?");
    enter(&mut fixture, ":", "kill-user");
    assert!(fixture.text().contains("Kill this user?"));
    fixture.press("<");
    let effects = {
        fixture.press(":export-json");
        fixture.press(">")
    };
    let [Effect::Save(saved)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((saved.extension, saved.text.matches("\"key\"").count()), ("json", fixture.keys().len()));
    let effects = fixture.press("e");
    let [Effect::Save(saved)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(saved.text.lines().count(), fixture.keys().len() + 1);
    assert_eq!(fixture.press("E"), [Effect::SaveScreenshot]);
    let saved = crate::tui::view::as_text(&fixture.model);
    assert!(saved.contains("▎ Streams") && !saved.contains('\u{1b}'));
    fixture.send(Msg::FileWritten(Ok("/tmp/x.txt".into())));
    assert_eq!(fixture.notice(), "written to /tmp/x.txt");
    assert_eq!(fixture.press("y"), [Effect::Copy(fixture.selected().unwrap().to_string())]);
}

#[test]
fn the_help_can_be_searched() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("?/freeze>");
    let text = fixture.text();
    assert!(text.contains("Help: freeze") && text.contains("freeze the display"), "{text}");
    assert!(!text.contains("kill the selected"), "{text}");
    fixture.press("</freeze the display>");
    fixture.press("?");
    fixture.press("/freeze the dis>");
    let text = fixture.text();
    assert!(text.contains("freeze the display") && !text.contains("kill the selected"), "{text}");
    // A column is found by what it means, and a search without a result says so.
    fixture.press("/doubles the share>");
    assert!(fixture.text().contains("PRIO"), "{}", fixture.text());
    fixture.press("/xyzzy>");
    assert!(fixture.text().contains("No entry contains «xyzzy»."), "{}", fixture.text());
}

#[test]
fn proxies_unfold_are_kicked_and_filter_their_streams() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("2");
    assert!(fixture.text().contains("imbalance 1.04"), "{}", fixture.text());
    fixture.press(">");
    assert!(fixture.text().contains("P1/1") && fixture.text().contains("RTT"), "{}", fixture.text());
    fixture.press("jx");
    assert!(fixture.text().contains("Kick this proxy?") && fixture.text().contains("edge-fra  P1"));
    assert!(fixture.text().contains("Type 12 to confirm"), "it has more than ten streams");
    assert_eq!(fixture.press("12y"), [Effect::SendCommand(CommandId(1), Command::KickProxy(ProxyId(1)))]);
    fixture.press("f");
    assert_eq!(fixture.model.streams_screen.filter.text(), "proxy=edge-fra");
    assert_eq!(fixture.model.screen, ScreenId::Streams);
    assert!(!fixture.keys().is_empty());
}

#[test]
fn users_are_listed_and_killed_and_links_have_timelines() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("3j");
    let text = fixture.text();
    assert!(text.contains("▎ Proxy links") && text.contains("╳") && text.contains("7 active"), "{text}");
    let user = fixture.model.sessions_screen.cursor.selected().unwrap().user();
    fixture.press("x");
    assert!(fixture.text().contains("Kill this user?") && fixture.text().contains(&user.to_string()));
    assert_eq!(fixture.press("y"), [Effect::SendCommand(CommandId(1), Command::KillUser(user))]);
    fixture.press("f");
    assert_eq!(fixture.model.streams_screen.filter.text(), format!("user={user}"));
    fixture.press("L");
    assert_eq!(fixture.model.screen, ScreenId::Logs);
    assert!(fixture.model.log_screen.filter().starts_with(&user.to_string()));
    fixture.press("<<");
    assert_eq!(fixture.model.screen, ScreenId::Streams);
}

#[test]
fn read_only_mode_has_no_actions() {
    let mut fixture = Fixture::busy(120, 36);
    let settings = RawSettings { read_only: true, ..RawSettings::default() };
    fixture.model.apply_settings(&settings.resolve().unwrap(), Capabilities::all());
    for keys in ["x", "K", "X", "m", "p", "+", "-", "l", "2x", "lDwP", "3x", "l", "1>x", "p+-l"] {
        assert_eq!(fixture.press(keys), [], "{keys}");
        assert!(fixture.model.overlay.is_none(), "{keys}");
    }
    fixture.press("<");
    for command in [
        "kill",
        "pause",
        "resume",
        "raise",
        "priority high",
        "limit off",
        "drain",
        "weight 3",
        "policy weighted",
    ] {
        enter(&mut fixture, ":", command);
        let name = command.split(' ').next().unwrap();
        assert_eq!(fixture.notice(), format!("{name} is disabled: this cockpit is read-only"));
    }
    for (typed, command) in
        [(":prio_", ":priority"), (":lim_", ":limit"), (":wei_", ":weight"), (":pol_", ":policy")]
    {
        fixture.press(typed);
        assert!(!fixture.text().contains(command), "{}", fixture.text());
        fixture.press("<");
    }
    for (quits, asked) in
        [("q", "quit (q)"), ("^", "quit"), (":q>", "quit"), (":quit>", "quit"), (":quit!>", "quit")]
    {
        assert_eq!(fixture.press(quits), [], "{quits}");
        let why = format!("{asked} is disabled: this cockpit is read-only");
        let disabled = fixture.notice().contains(&why);
        assert!(disabled && fixture.model.overlay.is_none(), "{quits}: {}", fixture.notice());
    }
    assert_eq!(fixture.send(Msg::Key(Key::ctrl('z'))), [], "the tunnel would be suspended too");
    fixture.press("?");
    assert!(!fixture.text().contains("kill the selected"));
}

#[test]
fn the_mouse_selects_and_sorts_while_enabled() {
    let mut fixture = Fixture::busy(120, 36);
    let head = fixture.model.layout().table;
    fixture.send(Msg::Mouse(MouseEvent::Click { x: 20, y: head.y + 4 }));
    assert_eq!(fixture.model.streams_screen.cursor.index(), 0, "the mouse is off");
    assert_eq!(fixture.press(":mouse>"), [Effect::Mouse(true)]);
    fixture.send(Msg::Mouse(MouseEvent::Click { x: 20, y: head.y + 4 }));
    assert_eq!(fixture.selected(), fixture.keys().get(3).copied());
    fixture.send(Msg::Mouse(MouseEvent::Wheel { down: true }));
    assert_eq!(fixture.model.streams_screen.cursor.index(), 6);
    fixture.send(Msg::Mouse(MouseEvent::Click { x: 3, y: head.y }));
    assert_eq!(fixture.model.shown().streams.sort().by, SortBy::Column(StreamColumn::Stream));
    fixture.send(Msg::Mouse(MouseEvent::Click { x: 3, y: head.y }));
    assert!(fixture.model.shown().streams.sort().reversed);
}

#[test]
fn all_streams_that_match_a_filter_can_be_marked() {
    let mut fixture = Fixture::busy(120, 36);
    enter(&mut fixture, "/", "down>1M");
    enter(&mut fixture, ":", "mark-shown");
    assert_eq!(fixture.model.streams_screen.marks.len(), 5);
    fixture.press("x");
    assert_eq!(fixture.press("y").len(), 5);
    assert!(fixture.keys().contains(&key(0x133A6E, 1)));
}

/// tui-logger's widget panics in a debug build if its newest record does not pass the filter.
#[test]
fn a_filtered_log_scrolls_whatever_its_newest_record_is() {
    let mut fixture = Fixture::busy(80, 24);
    let record = |text: String| LogRecord {
        epoch_ms: 3_661_000,
        level: LogLevel::Warn,
        target: "operator".into(),
        text,
    };
    for number in 0..60 {
        fixture.model.log_screen.push(record(format!("kick proxy Q{number}: done")));
        fixture.model.log_screen.push(record("something else\u{1b}[2J".into()));
    }
    fixture.press("4/");
    fixture.type_in("kick proxy Q");
    fixture.press(">");
    let text = fixture.text();
    assert!(text.contains("01:01:01Z WARN  kick proxy Q59: done") && !text.contains("else"), "{text}");
    assert!(!text.contains("Q30:"), "{text}");
    fixture.send(Msg::Key(Key::plain(KeyCode::PageUp)));
    fixture.send(Msg::Key(Key::plain(KeyCode::PageUp)));
    let text = fixture.text();
    assert!(text.contains("Q20:") && !text.contains("Q59:"), "{text}");
    fixture.model.log_screen.push(record("kick proxy Q60: done".into()));
    assert_eq!(fixture.text(), text, "a new record does not scroll the log");
    fixture.press("<");
    assert!(fixture.text().contains("listening on"), "{}", fixture.text());
    fixture.press("/");
    fixture.type_in("no such text");
    assert!(fixture.text().contains("No record contains these words."), "{}", fixture.text());
}

#[test]
fn the_detail_screen_shows_log_records_of_its_stream_only() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("j>");
    let key = fixture.selected().unwrap();
    let record = |text: String, target: &'static str| LogRecord {
        epoch_ms: u64::MAX,
        level: LogLevel::Info,
        target: target.into(),
        text,
    };
    fixture
        .model
        .log_screen
        .push(record(format!("kill stream {key}: the object of the command no longer exists"), "operator"));
    fixture.model.log_screen.push(record(format!("kill stream {key}7: never mind"), "operator"));
    fixture.model.log_screen.push(record(format!("stream {key} ended: twice"), "lifecycle"));
    let text = fixture.text();
    assert!(
        text.contains(&format!("kill stream {key}: the object of the command no longer exists")),
        "{text}"
    );
    assert!(!text.contains("never mind") && !text.contains("twice"), "{text}");
    fixture.press("L");
    let text = fixture.text();
    assert!(
        text.contains("twice") && text.contains("no longer exists") && !text.contains("never mind"),
        "{text}"
    );
}

#[test]
fn a_low_screen_names_the_proxy_that_disconnected_last() {
    let mut fixture = Fixture::empty(80, 24);
    fixture.adjust_snapshot = |snapshot| snapshot.services.clear();
    fixture.tick(TICK);
    assert!(fixture.text().contains("No proxy yet"), "{}", fixture.text());
    fixture.proxy("edge-fra");
    fixture.tick(TICK);
    fixture.proxies.clear();
    fixture.tick(TICK);
    fixture.tick(TICK);
    // Closed ports and disconnected proxies are removed after a while, but the last proxy is still named.
    fixture.tick(Duration::from_secs(700));
    assert!(fixture.text().contains("No proxy: edge-fra disconnected 11m40 ago"), "{}", fixture.text());
    fixture.resize(120, 36);
    assert!(fixture.text().contains("No proxy: edge-fra disconnected 11m40 ago"), "{}", fixture.text());
}

#[test]
fn hidden_rows_are_counted() {
    let mut fixture = Fixture::busy(120, 36);
    enter(&mut fixture, "/", "proxy:fra");
    let (open, ended) = fixture.model.open_and_ended_counts();
    assert_eq!(open + ended, fixture.keys().len());
    let title = format!("▎ Streams  {open} of 37 open · {ended} of 3 ended  / proxy:fra");
    assert!(fixture.text().contains(&title), "{title}\n{}", fixture.text());
    fixture.press("<t");
    assert!(fixture.text().contains("37 open · 3 ended (hidden)"), "{}", fixture.text());
}

#[test]
fn small_screens_show_that_they_are_frozen_or_filtered() {
    for (width, height) in [(24, 6), (40, 12), (60, 15), (80, 24), (120, 36)] {
        let mut fixture = Fixture::busy(width, height);
        enter(&mut fixture, "/", "image");
        assert!(fixture.text().contains("/ image"), "{width}x{height}: {}", fixture.text());
        for screen in ["1", "2", "3", "4"] {
            fixture.press(screen);
            assert!(!fixture.text().contains("FROZEN"));
            fixture.press(" ");
            assert!(fixture.text().contains("FROZEN"), "{width}x{height} {screen}: {}", fixture.text());
            fixture.press(" ");
        }
    }
}

#[test]
fn a_prompt_shows_the_completions_of_its_last_word() {
    let mut fixture = Fixture::busy(120, 36);
    let line = |fixture: &Fixture| fixture.text().lines().last().unwrap_or_default().to_owned();
    fixture.press(":");
    fixture.type_in("kill");
    assert!(line(&fixture).ends_with("kill  kill-shown  kill-user"), "{}", line(&fixture));
    fixture.type_in("-u_");
    fixture.press("_");
    assert_eq!(line(&fixture).trim_end(), " :kill-u_", "no word begins like this");
    fixture.press("<:");
    fixture.type_in("theme l");
    assert!(line(&fixture).ends_with("  light"), "{}", line(&fixture));
    fixture.press("_");
    assert_eq!(line(&fixture).trim_end(), " :theme light", "the word is complete");
}

#[test]
fn timelines_show_draining_reconnecting_and_the_end_of_a_link() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("edge");
    fixture.tick(Duration::from_secs(30));
    fixture.proxies[0].0.stats().set_draining(true);
    fixture.tick(TICK);
    fixture.tick(Duration::from_secs(20));
    fixture.proxies[0].0.stats().set_draining(false);
    fixture.proxies[0].0.stats().set_grace_deadline(Some(fixture.now + Duration::from_secs(30)));
    fixture.tick(TICK);
    fixture.tick(Duration::from_secs(20));
    fixture.proxies[0].0.stats().set_grace_deadline(None);
    fixture.tick(TICK);
    fixture.tick(Duration::from_secs(20));
    fixture.press("3");
    let drawn = |fixture: &Fixture| {
        let row = fixture.text().lines().find(|row| row.contains("  edge")).unwrap_or_default().to_owned();
        let mut signs: Vec<char> = row.chars().filter(|c| "├━▒┄▶╳┤".contains(*c)).collect();
        signs.dedup();
        signs.into_iter().collect::<String>()
    };
    assert_eq!(drawn(&fixture), "├━▒┄━▶");
    fixture.proxies[0].0.set_reason(crate::telemetry::DisconnectReason::GoAway);
    fixture.proxies.clear();
    fixture.tick(TICK);
    fixture.tick(Duration::from_secs(10));
    assert_eq!(drawn(&fixture), "├━▒┄━┤┄");
}
