//! The byte sequences of common terminals, and that a read may end anywhere.

use proptest::prelude::*;

use super::*;

fn events(bytes: &[u8]) -> Vec<InputEvent> {
    let (mut parser, mut out) = (InputParser::default(), Vec::new());
    parser.feed(bytes, &mut out);
    parser.flush(&mut out);
    out
}

fn keys(bytes: &[u8]) -> Vec<Key> {
    let key = |event| match event {
        InputEvent::Key(key) => Some(key),
        InputEvent::Mouse(_) | InputEvent::Paste(_) => None,
    };
    events(bytes).into_iter().filter_map(key).collect()
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
    assert_eq!(
        events(b"\x1b[<0;5;7M\x1b[<0;5;7m\x1b[<65;1;1Mj"),
        [
            InputEvent::Mouse(MouseEvent::Click { x: 4, y: 6 }),
            InputEvent::Mouse(MouseEvent::Wheel { down: true }),
            InputEvent::Key(Key::char('j'))
        ]
    );
}

#[test]
fn a_bracketed_paste_is_text_and_never_keys() {
    let paste = |text: &str| InputEvent::Paste(text.to_owned());
    let j = || InputEvent::Key(Key::char('j'));
    assert_eq!(events(b"j\x1b[200~xy\x03\n\x1b[A\x1b[201~j"), [j(), paste("xy\x03\n\x1b[A"), j()]);
    assert_eq!(events("\x1b[200~é\x1b[201~\x1b[200~\x1b[201~".as_bytes()), [paste("é"), paste("")]);
    // An end without a beginning is no key either.
    assert_eq!(events(b"\x1b[201~j"), [j()]);
    // A paste that does not end is given up, and what came of it is text.
    let (mut parser, mut out) = (InputParser::default(), Vec::new());
    parser.feed(b"\x1b[200~Kylie\x1b[20", &mut out);
    assert_eq!((out.as_slice(), parser.timeout()), (&[][..], Some(PASTE_TIMEOUT)));
    parser.flush(&mut out);
    assert_eq!((out.as_slice(), parser.timeout()), (&[paste("Kylie\x1b[20")][..], None));
    // A long paste is kept up to a limit and read to its end.
    let long = [PASTE_BEGIN, &[b'y'; 3 * MAX_PASTE_BYTES], PASTE_END, b"j"].concat();
    assert_eq!(events(&long), [paste(&"y".repeat(MAX_PASTE_BYTES)), j()]);
}

/// A sequence that does not end must not grow, whether it comes in one read or byte by byte.
#[test]
fn a_sequence_without_an_end_is_discarded() {
    let endless = [&b"\x1b["[..], &b"1;".repeat(10_000)].concat();
    let (mut parser, mut out) = (InputParser::default(), Vec::new());
    parser.feed(&endless, &mut out);
    endless.iter().for_each(|byte| parser.feed(std::slice::from_ref(byte), &mut out));
    assert!(parser.pending.len() <= MAX_SEQUENCE_BYTES, "{}", parser.pending.len());
    assert!(parser.pending.capacity() <= 4 * MAX_SEQUENCE_BYTES, "{}", parser.pending.capacity());
}

#[test]
fn terminal_replies_are_not_keys() {
    assert_eq!(keys(b"\x1b[24;80R\x1b[?1;2cq"), vec![Key::char('q')]);
}

proptest! {
    #[test]
    fn input_may_be_split_at_any_byte(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..16),
                Just(PASTE_BEGIN.to_vec()),
                Just(PASTE_END.to_vec()),
            ],
            0..6
        ),
        cut in 0..96usize,
    ) {
        let bytes = parts.concat();
        let cut = cut.min(bytes.len());
        let (mut parser, mut out) = (InputParser::default(), Vec::new());
        parser.feed(&bytes[..cut], &mut out);
        parser.feed(&bytes[cut..], &mut out);
        parser.flush(&mut out);
        prop_assert_eq!(out, events(&bytes));
    }
}
