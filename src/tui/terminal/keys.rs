//! Parses the bytes that a terminal sends into keys and mouse events.
//!
//! The cockpit does not use crossterm's event source: that reads until the descriptor would block, so that a terminal
//! which disappeared (end of file or an I/O error on every read) keeps it spinning inside the call, where the cockpit
//! cannot stop it. This parser performs no I/O.

pub(crate) use crossterm::event::{KeyCode, KeyModifiers};

/// A key press: the key and its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The key, or the character that it types.
    pub(crate) code: KeyCode,
    /// The modifiers held down: Shift, Alt, Control. An upper-case letter has no Shift.
    pub(crate) modifiers: KeyModifiers,
}

impl Key {
    /// Creates a key with modifiers.
    pub(crate) const fn new(code: KeyCode, modifiers: KeyModifiers) -> Self {
        Self { code, modifiers }
    }

    /// Creates a key without modifiers.
    pub(crate) const fn plain(code: KeyCode) -> Self {
        Self::new(code, KeyModifiers::NONE)
    }

    /// Creates the key of a character. An upper-case letter is its own character, without the Shift modifier.
    pub(crate) const fn char(c: char) -> Self {
        Self::plain(KeyCode::Char(c))
    }

    /// Creates the key of a character pressed with Control.
    pub(crate) const fn ctrl(c: char) -> Self {
        Self::new(KeyCode::Char(c), KeyModifiers::CONTROL)
    }
}

/// A mouse event that the cockpit handles. Columns and rows are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MouseEvent {
    /// The left button was pressed at this cell.
    Click { x: u16, y: u16 },
    /// The wheel moved one notch, down or up.
    Wheel { down: bool },
}

/// The longest escape sequence, in bytes, that the parser keeps; longer ones are discarded as noise.
const MAX_SEQUENCE_BYTES: usize = 64;

/// An incremental parser: an escape sequence or UTF-8 character may be split across reads.
#[derive(Debug, Default)]
pub(crate) struct InputParser {
    /// The received bytes of an escape sequence or character that is not complete yet.
    pending: Vec<u8>,
    /// Mouse events that were parsed and not taken yet, the oldest first.
    mouse_events: Vec<MouseEvent>,
}

/// What the pending bytes begin with. Lengths are in bytes.
enum ParsedPrefix {
    /// A key, and its encoded length.
    Key(Key, usize),
    /// A mouse event, and its encoded length.
    Mouse(MouseEvent, usize),
    /// Bytes that encode neither: a terminal's reply to a query, or noise.
    Skip(usize),
    /// A sequence of which more bytes are needed.
    Incomplete,
}

impl InputParser {
    /// Parses `bytes` and appends each completed key to `out`. Mouse events are kept for
    /// [`take_mouse_events`](Self::take_mouse_events).
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Key>) {
        for chunk in bytes.chunks(MAX_SEQUENCE_BYTES) {
            self.pending.extend_from_slice(chunk);
            self.parse_pending(out);
            if self.pending.len() > MAX_SEQUENCE_BYTES {
                self.pending.clear();
            }
        }
    }

    /// Returns the mouse events parsed since the last call, the oldest first.
    pub(crate) fn take_mouse_events(&mut self) -> Vec<MouseEvent> {
        std::mem::take(&mut self.mouse_events)
    }

    /// Returns whether the pending bytes are an incomplete sequence.
    pub(crate) fn has_partial_sequence(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Gives up waiting for the rest of a sequence: emits the Escape key if the pending bytes begin with an escape,
    /// and discards them.
    pub(crate) fn flush(&mut self, out: &mut Vec<Key>) {
        if self.pending.first() == Some(&0x1B) {
            out.push(Key::plain(KeyCode::Esc));
        }
        self.pending.clear();
    }

    /// Removes each complete key, mouse event or reply from the front of the pending bytes.
    fn parse_pending(&mut self, out: &mut Vec<Key>) {
        let mut at = 0;
        while at < self.pending.len() {
            match parse_prefix(&self.pending[at..]) {
                ParsedPrefix::Key(key, len) => {
                    out.push(key);
                    at += len;
                }
                ParsedPrefix::Mouse(mouse, len) => {
                    self.mouse_events.push(mouse);
                    at += len;
                }
                ParsedPrefix::Skip(len) => at += len,
                ParsedPrefix::Incomplete => break,
            }
        }
        self.pending.drain(..at);
    }
}

/// Parses the key, mouse event or reply that `bytes` begins with.
fn parse_prefix(bytes: &[u8]) -> ParsedPrefix {
    match bytes {
        [0x1B] => ParsedPrefix::Incomplete,
        [0x1B, b'[', rest @ ..] => parse_csi(rest),
        [0x1B, b'O'] => ParsedPrefix::Incomplete,
        [0x1B, b'O', last, ..] => match key_of_final_byte(*last) {
            Some(code) => ParsedPrefix::Key(Key::plain(code), 3),
            None => ParsedPrefix::Skip(3),
        },
        // The first of two escapes is the Escape key.
        [0x1B, 0x1B, ..] => ParsedPrefix::Key(Key::plain(KeyCode::Esc), 1),
        [0x1B, rest @ ..] => match parse_prefix(rest) {
            ParsedPrefix::Key(key, len) => {
                ParsedPrefix::Key(Key::new(key.code, key.modifiers | KeyModifiers::ALT), len + 1)
            }
            ParsedPrefix::Skip(len) | ParsedPrefix::Mouse(_, len) => ParsedPrefix::Skip(len + 1),
            ParsedPrefix::Incomplete => ParsedPrefix::Incomplete,
        },
        [b'\r' | b'\n', ..] => ParsedPrefix::Key(Key::plain(KeyCode::Enter), 1),
        [b'\t', ..] => ParsedPrefix::Key(Key::plain(KeyCode::Tab), 1),
        [0x7F | 0x08, ..] => ParsedPrefix::Key(Key::plain(KeyCode::Backspace), 1),
        [0, ..] => ParsedPrefix::Key(Key::ctrl(' '), 1),
        [control @ 1..=26, ..] => ParsedPrefix::Key(Key::ctrl(char::from(control - 1 + b'a')), 1),
        [28..=31, ..] => ParsedPrefix::Skip(1),
        [ascii @ 0x20..=0x7E, ..] => ParsedPrefix::Key(Key::char(char::from(*ascii)), 1),
        [first, ..] => parse_utf8(*first, bytes),
        [] => ParsedPrefix::Incomplete,
    }
}

/// Parses the UTF-8 character that begins with the byte `first`.
fn parse_utf8(first: u8, bytes: &[u8]) -> ParsedPrefix {
    let len = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return ParsedPrefix::Skip(1),
    };
    let have = &bytes[..len.min(bytes.len())];
    match std::str::from_utf8(have) {
        Ok(text) => match text.chars().next() {
            Some(c) if !c.is_control() => ParsedPrefix::Key(Key::char(c), len),
            _ => ParsedPrefix::Skip(len),
        },
        // Without an error length the bytes are a valid but incomplete character.
        Err(error) if error.error_len().is_none() => ParsedPrefix::Incomplete,
        Err(_) => ParsedPrefix::Skip(1),
    }
}

/// Parses a control sequence (ECMA-48 CSI); `rest` is what follows `ESC [`.
fn parse_csi(rest: &[u8]) -> ParsedPrefix {
    let Some(end) = rest.iter().position(|b| !(0x20..=0x3F).contains(b)) else {
        return if rest.len() > MAX_SEQUENCE_BYTES - 2 {
            ParsedPrefix::Skip(rest.len() + 2)
        } else {
            ParsedPrefix::Incomplete
        };
    };
    if !(0x40..=0x7E).contains(&rest[end]) {
        // The sequence was cut short; the byte that interrupted it begins another one.
        return ParsedPrefix::Skip(end + 2);
    }
    let len = end + 3;
    let Ok(parameters) = std::str::from_utf8(&rest[..end]) else { return ParsedPrefix::Skip(len) };
    if let (Some(report), b'M' | b'm') = (parameters.strip_prefix('<'), rest[end]) {
        // `M` reports a press, `m` a release, which needs no action.
        let mouse = parse_sgr_mouse(report).filter(|_| rest[end] == b'M');
        return mouse.map_or(ParsedPrefix::Skip(len), |mouse| ParsedPrefix::Mouse(mouse, len));
    }
    let mut numbers = parameters.split(';').map(|n| n.parse::<u8>().unwrap_or(0));
    let (number, modifiers) = (numbers.next().unwrap_or(0), parse_modifiers(numbers.next().unwrap_or(1)));
    let code = match rest[end] {
        b'Z' => return ParsedPrefix::Key(Key::new(KeyCode::BackTab, KeyModifiers::SHIFT), len),
        b'~' => key_of_tilde_number(number),
        // A larger first parameter makes it a cursor position report, not F1 to F4.
        b'P'..=b'S' if number > 1 => None,
        last => key_of_final_byte(last),
    };
    match code {
        Some(code) => ParsedPrefix::Key(Key::new(code, modifiers), len),
        None => ParsedPrefix::Skip(len),
    }
}

/// Parses `button;column;row` of an SGR mouse report (mode 1006), which counts cells from 1.
fn parse_sgr_mouse(report: &str) -> Option<MouseEvent> {
    let mut numbers = report.split(';').map(|n| n.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match button {
        0 => Some(MouseEvent::Click { x: x.saturating_sub(1), y: y.saturating_sub(1) }),
        64 | 65 => Some(MouseEvent::Wheel { down: button == 65 }),
        _ => None,
    }
}

/// Decodes the modifier parameter of a control sequence: 1 plus a bit mask of Shift, Alt and Control.
fn parse_modifiers(parameter: u8) -> KeyModifiers {
    let bits = parameter.saturating_sub(1);
    let mut modifiers = KeyModifiers::NONE;
    for (bit, modifier) in [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)] {
        if bits & bit != 0 {
            modifiers |= modifier;
        }
    }
    modifiers
}

/// Returns the key that the final byte of an `ESC O` or `ESC [` sequence names.
fn key_of_final_byte(last: u8) -> Option<KeyCode> {
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

/// Returns the key of `ESC [ number ~`, as xterm and rxvt number them.
fn key_of_tilde_number(number: u8) -> Option<KeyCode> {
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
mod tests;
