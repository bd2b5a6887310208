//! The byte sequences of common terminals, and that a read may end anywhere.

use proptest::prelude::*;

use super::*;

fn keys(bytes: &[u8]) -> Vec<Key> {
    let (mut parser, mut out) = (InputParser::default(), Vec::new());
    parser.feed(bytes, &mut out);
    parser.flush(&mut out);
    out
}

#[test]
fn key_sequences_of_common_terminals_are_parsed() {
    let plain = |code| vec![Key::plain(code)];
    for (bytes, expected) in [
        (&b"j"[..], vec![Key::char('j')]),
        (b"\x1b[A", plain(KeyCode::Up)),
        (b"\x1bOB", plain(KeyCode::Down)),
        (b"\x1b[5~", plain(KeyCode::PageUp)),
        (b"\x1b[3~", plain(KeyCode::Delete)),
        (b"\x1b[20~", plain(KeyCode::F(9))),
        (b"\x1b[1;5A", vec![Key::new(KeyCode::Up, KeyModifiers::CONTROL)]),
        (b"\x1b[Z", vec![Key::new(KeyCode::BackTab, KeyModifiers::SHIFT)]),
        (b"\x1b", plain(KeyCode::Esc)),
        (b"\x1b\x1b", vec![Key::plain(KeyCode::Esc); 2]),
        (b"\x1bx", vec![Key::new(KeyCode::Char('x'), KeyModifiers::ALT)]),
        (b"\x03\r\t", vec![Key::ctrl('c'), Key::plain(KeyCode::Enter), Key::plain(KeyCode::Tab)]),
        ("é→".as_bytes(), vec![Key::char('é'), Key::char('→')]),
    ] {
        assert_eq!(keys(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn mouse_reports_are_not_keys() {
    let (mut parser, mut out) = (InputParser::default(), Vec::new());
    parser.feed(b"\x1b[<0;5;7M\x1b[<0;5;7m\x1b[<65;1;1Mj", &mut out);
    assert_eq!(out, [Key::char('j')]);
    assert_eq!(
        parser.take_mouse_events(),
        [MouseEvent::Click { x: 4, y: 6 }, MouseEvent::Wheel { down: true }]
    );
}

#[test]
fn terminal_replies_are_not_keys() {
    assert_eq!(keys(b"\x1b[24;80R\x1b[?1;2cq"), vec![Key::char('q')]);
}

proptest! {
    #[test]
    fn input_may_be_split_at_any_byte(bytes in proptest::collection::vec(any::<u8>(), 0..48), cut in 0..48usize) {
        let cut = cut.min(bytes.len());
        let (mut parser, mut out) = (InputParser::default(), Vec::new());
        parser.feed(&bytes[..cut], &mut out);
        parser.feed(&bytes[cut..], &mut out);
        parser.flush(&mut out);
        prop_assert_eq!(out, keys(&bytes));
    }
}
