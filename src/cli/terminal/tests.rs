//! Which terminals can show the cockpit, and what is said of those that cannot.

use super::*;

#[test]
fn the_cockpit_needs_the_foreground_a_cursor_and_a_size() {
    let obstacle = |foreground, term: Option<&str>, size| {
        find_obstacle(foreground, term.map(OsStr::new), || size).map(|obstacle| obstacle.to_string())
    };
    assert_eq!(obstacle(true, Some("xterm-256color"), true), None);
    let of = |obstacle: Option<String>, part: &str| assert!(obstacle.unwrap().contains(part), "{part}");
    of(obstacle(false, Some("xterm"), true), "in the background");
    of(obstacle(true, Some("dumb"), true), "TERM is dumb");
    of(obstacle(true, Some(""), true), "TERM is not set");
    of(obstacle(true, None, true), "TERM is not set");
    of(obstacle(true, Some("xterm"), false), "stty rows 24 cols 80");
}

#[test]
fn a_size_that_is_set_after_the_start_counts() {
    let calls = std::cell::Cell::new(0);
    assert!(has_size_soon(|| calls.replace(calls.get() + 1) == 3));
    assert!(!has_size_soon(|| false));
}
