//! What a new operator needs to find his way: which keys work now, what a question is about, and where users connect.

use std::time::Duration;

use super::fixture::{Fixture, addr};
use crate::{
    ids::{ProxyId, UserChannelId},
    telemetry::{EndReason, EventKind},
};

const TICK: Duration = Duration::from_millis(100);

/// The first line of the screen.
fn header(fixture: &Fixture) -> String {
    fixture.text().lines().next().unwrap_or_default().to_owned()
}

/// The last line of the screen.
fn footer(fixture: &Fixture) -> String {
    fixture.text().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn without_a_proxy_the_keys_are_those_that_do_something() {
    for (width, height) in [(200, 50), (120, 36), (80, 24), (60, 15)] {
        for screen in ["1", "2", "3"] {
            let mut fixture = Fixture::empty(width, height);
            fixture.tick(TICK);
            fixture.press(screen);
            let keys = footer(&fixture);
            assert!(keys.contains("a add a proxy") && keys.contains("? help"), "{keys}");
            for idle in ["kill", "pause", "kick", "limit", "drain", "policy", "detail", "unfold"] {
                assert!(!keys.contains(idle), "{screen}: {keys}");
            }
        }
    }
    let mut fixture = Fixture::busy(120, 36);
    for screen in ["1", "2", "3"] {
        fixture.press(screen);
        let keys = footer(&fixture);
        assert!(keys.contains(" x ") && !keys.contains("add a proxy"), "{keys}");
    }
    // A service has limits and a policy, and nothing to kick or drain.
    fixture.press("2G");
    let keys = footer(&fixture);
    assert!(keys.contains("l limit") && keys.contains("P policy"), "{keys}");
    assert!(!keys.contains("kick") && !keys.contains("drain") && !keys.contains("weight"), "{keys}");
}

#[test]
fn a_notice_from_before_a_question_leaves_room_for_its_keys() {
    let mut fixture = Fixture::busy(60, 15);
    fixture.press("jx<");
    assert!(footer(&fixture).contains("was not killed"), "{}", fixture.text());
    fixture.press("x");
    assert!(footer(&fixture).contains("⏎ cancel  y kill"), "{}", fixture.text());
    // One about the question itself is shown.
    fixture.press("<q");
    fixture.press("y");
    assert!(footer(&fixture).contains("selects an answer"), "{}", fixture.text());
}

#[test]
fn the_smallest_header_names_what_the_operator_needs_next() {
    let mut fixture = Fixture::empty(60, 15);
    fixture.tick(TICK);
    assert!(header(&fixture).contains("● tunnel :7000  0 proxies"), "{}", header(&fixture));
    let mut fixture = Fixture::busy(60, 15);
    let others = ["18081", "18082:blue"].map(|key| fixture.hub.service_opened(key.parse().unwrap()));
    fixture.tick(TICK);
    assert!(header(&fixture).contains("37 open  users on :8080 +2"), "{}", header(&fixture));
    drop(others);
}

#[test]
fn the_question_about_a_user_names_the_port_whose_streams_are_killed() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("jK");
    let text = fixture.text();
    assert!(text.contains("Kill this user?") && text.contains("  on :8080 "), "{text}");
}

#[test]
fn the_detail_says_how_long_the_connection_took_and_what_the_target_answered() {
    let mut fixture = Fixture::busy(120, 36);
    let request = fixture.streams.iter().position(|stream| {
        let content = stream.stats().content();
        content.is_some_and(|content| content.to_string().contains("/pool/"))
    });
    let key = fixture.streams[request.unwrap()].stats().key;
    fixture.press("/");
    fixture.type_in(&format!("key:{key}"));
    fixture.press(">>");
    let text = fixture.text();
    let target = text.lines().find(|line| line.contains("  target ")).unwrap();
    assert!(target.contains("connected") && target.contains("  HTTP 200"), "{text}");
    assert!(!target.contains("connected 200"), "{text}");
}

#[test]
fn the_timelines_say_how_many_links_do_not_fit() {
    let mut fixture = Fixture::empty(80, 24);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        fixture.proxy(name);
    }
    fixture.tick(TICK);
    fixture.press("3");
    let text = fixture.text();
    let title = text.lines().find(|line| line.contains("Proxy links")).unwrap();
    let drawn = text.lines().filter(|line| line.ends_with('▶')).count();
    assert!(title.contains(&format!("  {drawn}/8  last 2m")) && title.contains("╳ lost"), "{text}");
}

#[test]
fn users_that_have_left_stand_in_the_columns_of_the_others() {
    let mut fixture = Fixture::busy(120, 36);
    let addr = fixture.users[0].stats().addr.to_string();
    let user = fixture.users[0].stats().id;
    fixture.streams.retain(|stream| stream.stats().key.user != user);
    drop(fixture.users.remove(0));
    fixture.tick(TICK);
    fixture.press("3");
    let text = fixture.text();
    let at = |needle: &str, line: &str| line.find(needle).map(|at| line[..at].chars().count());
    let heading = text.lines().find(|line| line.contains("  USER  ")).unwrap();
    let left = text.lines().find(|line| line.contains(" left ")).unwrap();
    assert_eq!(at(&addr, left), at("ADDRESS", heading), "{text}");
}

/// An operator who joins a proxy after the certificate was renewed must not copy a fingerprint that is refused.
#[test]
fn the_join_command_follows_a_change_of_the_key() {
    let mut fixture = Fixture::empty(120, 36);
    let join = "underpass proxy --server 198.51.100.1:7000 --fingerprint sha256:OLDEST --token T --port 8080";
    fixture.model.labels.join = Some(join.into());
    fixture.tick(TICK);
    fixture.hub.emit(EventKind::TlsKeyChanged {
        file: "/etc/tls.key".into(),
        previous: "sha256:OLD".into(),
        fingerprint: "sha256:NEW".into(),
    });
    // Also where the event was missed, as that of an earlier change.
    fixture.lose_events();
    fixture.tick(TICK);
    fixture.press("a");
    let text = fixture.text();
    assert!(text.contains("--fingerprint sha256:NEW --token T") && !text.contains("sha256:OLD"), "{text}");
}

/// A proxy that is refused at once is in no snapshot: the event alone names it.
#[test]
fn the_notice_about_a_refused_registration_names_the_proxy() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.tick(TICK);
    let reason = "port 22 is not allowed".to_owned();
    fixture.hub.emit(EventKind::RegistrationRefused { proxy: ProxyId(3), name: "lab".into(), reason });
    fixture.tick(TICK);
    assert_eq!(fixture.notice(), "registration of lab refused: port 22 is not allowed");
}

/// The ids of the users table, from the top.
fn listed_users(fixture: &Fixture) -> Vec<String> {
    let text = fixture.text();
    let table = text.lines().skip_while(|line| !line.contains("  USER  ")).skip(1);
    let ids = table
        .filter(|line| line.contains('▸'))
        .filter_map(|line| line.split_whitespace().find(|s| s.len() == 6));
    ids.map(str::to_owned).collect()
}

/// Who uses the uplink is found without reading every row, and rows that are sorted by rates do not jump with each
/// sample.
#[test]
fn users_are_sorted_by_their_traffic_for_a_second_at_a_time() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for user in [1, 2, 3] {
        let stream = fixture.open(user, 1);
        fixture.assign(stream, 0);
    }
    fixture.press("3");
    fixture.tick(TICK);
    assert_eq!(listed_users(&fixture), ["000001", "000002", "000003"]);
    fixture.press("s");
    for bytes in [[10, 500_000, 2_000_000], [9_000_000, 0, 0]] {
        for (stream, bytes) in fixture.streams.iter().zip(bytes) {
            stream.stats().add_down(bytes);
        }
        fixture.tick(Duration::from_millis(600));
    }
    assert!(fixture.text().contains("sort traffic  row"), "{}", fixture.text());
    assert_eq!(listed_users(&fixture)[0], "000001", "{}", fixture.text());
    fixture.streams[1].stats().add_down(90_000_000);
    fixture.tick(TICK);
    assert_eq!(listed_users(&fixture)[0], "000001", "a row keeps its place for a second");
    fixture.press("s");
    assert_eq!(listed_users(&fixture), ["000002", "000001", "000003"], "by bytes, at once");
    let from = addr("203.0.113.9:50000");
    let another = fixture.hub.user_joined(UserChannelId::new(9), from.ip(), fixture.service.stats());
    fixture.tick(TICK);
    drop(another);
    fixture.press("SS");
    fixture.tick(TICK);
    assert_eq!(listed_users(&fixture), ["000001", "000002", "000003"], "{}", fixture.text());
}

/// The number to type is that of the question, also where streams end before it is answered.
#[test]
fn the_question_about_many_streams_says_how_many_of_them_are_still_open() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("A");
    let all = fixture.streams.len();
    assert!(fixture.text().contains(&format!(" {all} open streams ")), "{}", fixture.text());
    fixture.end(0, EndReason::Finished);
    fixture.tick(TICK);
    let text = fixture.text();
    assert!(text.contains(&format!(" {} of {all} streams still open ", all - 1)), "{text}");
    assert!(text.contains(&format!("Type {all} to confirm")), "{text}");
}

/// On the lowest terminal the list of columns has more rows than the screen.
#[test]
fn a_window_never_covers_the_keys_that_close_it() {
    let mut fixture = Fixture::busy(60, 15);
    for (key, last) in [("o", "Esc close"), ("?", "Esc close"), ("A", "Esc n cancel")] {
        fixture.press(key);
        assert!(footer(&fixture).contains(last), "{}", fixture.text());
        fixture.press("<");
    }
}

#[test]
fn a_prompt_shows_whole_examples_only() {
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("/");
    let keys = footer(&fixture);
    assert!(keys.contains("words  proxy:edge") && keys.trim_end().ends_with("!not"), "{keys}");
}
