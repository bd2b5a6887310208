//! Pins which names of keys are understood, and as which key.

use super::*;
use crate::tui::terminal::{InputEvent, InputParser};

#[test]
fn names_of_keys_are_understood_as_pinned() {
    let names = [
        "d",
        "D",
        "é",
        "-",
        "?",
        "space",
        "enter",
        "tab",
        "shift-tab",
        "backtab",
        "backspace",
        "delete",
        "del",
        "insert",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "pagedown",
        "F1",
        "f12",
        "ctrl-k",
        "Ctrl-K",
        "ctrl-space",
        "ctrl-up",
        "alt-x",
        "alt-shift-x",
        "alt-enter",
        "alt--",
        "ctrl-alt-x",
        "shift-d",
        "shift-up",
        "shift-F5",
        "ctrl-shift-left",
        "minus",
        "esc",
        "F13",
        "ctrl-c",
        "ctrl-h",
        "ctrl-i",
        "ctrl-m",
        "ctrl-1",
        "ctrl-shift-k",
        "shift-1",
        "shift-enter",
        "cmd-x",
        "meta-x",
        "ctrl-",
        "a-b",
        "",
    ];
    let lines = names.map(|name| match parse_key(name) {
        Ok(Key { code, modifiers }) => format!("{name:<16} {code:?} {modifiers:?}"),
        Err(_) => format!("{name:<16} refused"),
    });
    insta::assert_snapshot!("key_names", lines.join("\n"));
}

/// A binding to a key that the parser reports otherwise would never match.
#[test]
fn a_named_key_is_reported_by_the_terminal_parser() {
    for (name, bytes) in [
        ("alt-x", &b"\x1bx"[..]),
        ("alt-shift-x", b"\x1bX"),
        ("alt-enter", b"\x1b\r"),
        ("ctrl-alt-x", b"\x1b\x18"),
        ("ctrl-space", b"\0"),
        ("shift-up", b"\x1b[1;2A"),
        ("alt-left", b"\x1b[1;3D"),
        ("ctrl-shift-left", b"\x1b[1;6D"),
        ("shift-F5", b"\x1b[15;2~"),
        ("shift-tab", b"\x1b[Z"),
        ("shift-d", b"D"),
        ("insert", b"\x1b[2~"),
    ] {
        let (mut parser, mut events) = (InputParser::default(), Vec::new());
        parser.feed(bytes, &mut events);
        parser.flush(&mut events);
        assert_eq!(events, [InputEvent::Key(parse_key(name).unwrap())], "{name}");
    }
}
