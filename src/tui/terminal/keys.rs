//! Bytes from the terminal to keys.
//!
//! The cockpit reads the terminal itself rather than through crossterm's event source: that one reads until the
//! descriptor would block, so that a terminal which vanished (end of file, or an input/output error, for ever) keeps
//! it spinning inside the call, where no watcher can reach it.

pub(crate) use crossterm::event::{KeyCode, KeyModifiers};

/// One key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) code: KeyCode,
    pub(crate) modifiers: KeyModifiers,
}

impl Key {
    pub(crate) const fn new(code: KeyCode, modifiers: KeyModifiers) -> Self {
        Self { code, modifiers }
    }

    pub(crate) const fn plain(code: KeyCode) -> Self {
        Self::new(code, KeyModifiers::NONE)
    }

    pub(crate) const fn char(c: char) -> Self {
        Self::plain(KeyCode::Char(c))
    }

    pub(crate) const fn ctrl(c: char) -> Self {
        Self::new(KeyCode::Char(c), KeyModifiers::CONTROL)
    }
}

/// What a mouse did. Cells are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mouse {
    Click { x: u16, y: u16 },
    Wheel { down: bool },
}

/// A sequence longer than this is noise, not a key.
const LONGEST: usize = 64;

/// Turns bytes into keys, across the borders of reads.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pending: Vec<u8>,
    mice: Vec<Mouse>,
}

/// What the front of the pending bytes is.
enum Front {
    /// A key of so many bytes.
    Key(Key, usize),
    /// A mouse of so many bytes.
    Mouse(Mouse, usize),
    /// So many bytes that are no key: an answer of the terminal, or noise.
    Skip(usize),
    /// The beginning of something.
    More,
}

impl Parser {
    /// Takes bytes, and gives each key they complete to `out`.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Key>) {
        for chunk in bytes.chunks(LONGEST) {
            self.pending.extend_from_slice(chunk);
            self.drain(out);
            if self.pending.len() > LONGEST {
                self.pending.clear();
            }
        }
    }

    /// What the mouse did since this was asked last.
    pub(crate) fn take_mice(&mut self) -> Vec<Mouse> {
        std::mem::take(&mut self.mice)
    }

    /// Whether the beginning of a sequence waits for the rest.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The rest did not come: an escape alone was the Escape key.
    pub(crate) fn flush(&mut self, out: &mut Vec<Key>) {
        if self.pending.first() == Some(&0x1B) {
            out.push(Key::plain(KeyCode::Esc));
        }
        self.pending.clear();
    }

    fn drain(&mut self, out: &mut Vec<Key>) {
        let mut at = 0;
        while at < self.pending.len() {
            match front(&self.pending[at..]) {
                Front::Key(key, len) => {
                    out.push(key);
                    at += len;
                }
                Front::Mouse(mouse, len) => {
                    self.mice.push(mouse);
                    at += len;
                }
                Front::Skip(len) => at += len,
                Front::More => break,
            }
        }
        self.pending.drain(..at);
    }
}

fn front(bytes: &[u8]) -> Front {
    match bytes {
        [0x1B] => Front::More,
        [0x1B, b'[', rest @ ..] => control_sequence(rest),
        [0x1B, b'O'] => Front::More,
        [0x1B, b'O', last, ..] => match final_key(*last) {
            Some(code) => Front::Key(Key::plain(code), 3),
            None => Front::Skip(3),
        },
        // Two escapes: the first one was the key.
        [0x1B, 0x1B, ..] => Front::Key(Key::plain(KeyCode::Esc), 1),
        [0x1B, rest @ ..] => match front(rest) {
            Front::Key(key, len) => {
                Front::Key(Key::new(key.code, key.modifiers | KeyModifiers::ALT), len + 1)
            }
            Front::Skip(len) | Front::Mouse(_, len) => Front::Skip(len + 1),
            Front::More => Front::More,
        },
        [b'\r' | b'\n', ..] => Front::Key(Key::plain(KeyCode::Enter), 1),
        [b'\t', ..] => Front::Key(Key::plain(KeyCode::Tab), 1),
        [0x7F | 0x08, ..] => Front::Key(Key::plain(KeyCode::Backspace), 1),
        [0, ..] => Front::Key(Key::ctrl(' '), 1),
        [control @ 1..=26, ..] => Front::Key(Key::ctrl(char::from(control - 1 + b'a')), 1),
        [28..=31, ..] => Front::Skip(1),
        [ascii @ 0x20..=0x7E, ..] => Front::Key(Key::char(char::from(*ascii)), 1),
        [first, ..] => utf8(*first, bytes),
        [] => Front::More,
    }
}

fn utf8(first: u8, bytes: &[u8]) -> Front {
    let len = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Front::Skip(1),
    };
    let have = &bytes[..len.min(bytes.len())];
    match std::str::from_utf8(have) {
        Ok(text) => match text.chars().next() {
            Some(c) if !c.is_control() => Front::Key(Key::char(c), len),
            _ => Front::Skip(len),
        },
        // No error length: what is there is right as far as it goes.
        Err(error) if error.error_len().is_none() => Front::More,
        Err(_) => Front::Skip(1),
    }
}

/// What follows `ESC [`.
fn control_sequence(rest: &[u8]) -> Front {
    let Some(end) = rest.iter().position(|b| !(0x20..=0x3F).contains(b)) else {
        return if rest.len() > LONGEST - 2 { Front::Skip(rest.len() + 2) } else { Front::More };
    };
    if !(0x40..=0x7E).contains(&rest[end]) {
        // Cut short: what cut it begins something of its own.
        return Front::Skip(end + 2);
    }
    let len = end + 3;
    let Ok(parameters) = std::str::from_utf8(&rest[..end]) else { return Front::Skip(len) };
    if let (Some(report), b'M' | b'm') = (parameters.strip_prefix('<'), rest[end]) {
        // A release says nothing new.
        let mouse = mouse(report).filter(|_| rest[end] == b'M');
        return mouse.map_or(Front::Skip(len), |mouse| Front::Mouse(mouse, len));
    }
    let mut numbers = parameters.split(';').map(|n| n.parse::<u8>().unwrap_or(0));
    let (number, modifiers) = (numbers.next().unwrap_or(0), modifiers(numbers.next().unwrap_or(1)));
    let code = match rest[end] {
        b'Z' => return Front::Key(Key::new(KeyCode::BackTab, KeyModifiers::SHIFT), len),
        b'~' => tilde_key(number),
        // With a larger number it is the answer to where the cursor is.
        b'P'..=b'S' if number > 1 => None,
        last => final_key(last),
    };
    match code {
        Some(code) => Front::Key(Key::new(code, modifiers), len),
        None => Front::Skip(len),
    }
}

/// `button;column;row`, as SGR reports have it.
fn mouse(report: &str) -> Option<Mouse> {
    let mut numbers = report.split(';').map(|n| n.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match button {
        0 => Some(Mouse::Click { x: x.saturating_sub(1), y: y.saturating_sub(1) }),
        64 | 65 => Some(Mouse::Wheel { down: button == 65 }),
        _ => None,
    }
}

fn modifiers(parameter: u8) -> KeyModifiers {
    let bits = parameter.saturating_sub(1);
    let mut modifiers = KeyModifiers::NONE;
    for (bit, modifier) in [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)] {
        if bits & bit != 0 {
            modifiers |= modifier;
        }
    }
    modifiers
}

fn final_key(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        _ => return None,
    })
}

fn tilde_key(number: u8) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(number - 10),
        17..=21 => KeyCode::F(number - 11),
        23 | 24 => KeyCode::F(number - 12),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        parser.feed(bytes, &mut out);
        parser.flush(&mut out);
        out
    }

    #[test]
    fn what_terminals_send_is_understood() {
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
    fn clicks_and_the_wheel_are_no_keys() {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        parser.feed(b"\x1b[<0;5;7M\x1b[<0;5;7m\x1b[<65;1;1Mj", &mut out);
        assert_eq!(out, [Key::char('j')]);
        assert_eq!(parser.take_mice(), [Mouse::Click { x: 4, y: 6 }, Mouse::Wheel { down: true }]);
    }

    #[test]
    fn answers_of_the_terminal_are_no_keys() {
        assert_eq!(keys(b"\x1b[24;80R\x1b[?1;2cq"), vec![Key::char('q')]);
    }

    proptest! {
        #[test]
        fn reads_may_be_cut_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..48), cut in 0..48usize) {
            let cut = cut.min(bytes.len());
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            parser.feed(&bytes[..cut], &mut out);
            parser.feed(&bytes[cut..], &mut out);
            parser.flush(&mut out);
            prop_assert_eq!(out, keys(&bytes));
        }
    }
}
