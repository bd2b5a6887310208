//! Parses the bytes that a terminal sends into keys, mouse events and pasted text.
//!
//! The cockpit does not use crossterm's event source: that reads until the descriptor would block, so that a terminal
//! which disappeared (end of file or an I/O error on every read) keeps it spinning inside the call, where the cockpit
//! cannot stop it. This parser performs no I/O.

use std::time::Duration;

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

/// Something that the operator did at the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputEvent {
    /// A key was pressed.
    Key(Key),
    /// A mouse button was pressed, or the wheel moved by one notch.
    Mouse(MouseEvent),
    /// Text was pasted (bracketed paste, mode 2004); at most [`MAX_PASTE_BYTES`] of it.
    Paste(String),
}

/// The longest escape sequence, in bytes, that the parser keeps; longer ones are discarded as noise.
const MAX_SEQUENCE_BYTES: usize = 64;
/// How many bytes of a paste are kept; the rest is read and discarded. Longer than any line of a prompt.
const MAX_PASTE_BYTES: usize = 4096;
/// The sequence that terminals send before pasted text while bracketed paste is enabled.
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
/// The sequence that terminals send after pasted text. They remove it from the text itself.
const PASTE_END: &[u8] = b"\x1b[201~";
/// How long the parser waits for the rest of an escape sequence before it takes a lone escape byte as the Escape key.
/// A network seldom splits a sequence across packets, and no person notices a delay this short.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(30);
/// How long the parser waits for more of a paste. Without a limit a terminal that never ends its paste would disable
/// the keyboard; what comes later is a burst of keys, and acts on nothing either.
const PASTE_TIMEOUT: Duration = Duration::from_secs(2);

/// An incremental parser: an escape sequence, UTF-8 character or paste may be split across reads.
#[derive(Debug, Default)]
pub(crate) struct InputParser {
    /// The received bytes of an escape sequence or character that is not complete yet.
    pending: Vec<u8>,
    /// The text received so far of a paste whose end has not arrived; `None` while no paste is in progress.
    paste: Option<Vec<u8>>,
}

/// What the pending bytes begin with. Lengths are in bytes.
enum ParsedPrefix {
    /// A key, and its encoded length.
    Key(Key, usize),
    /// A mouse event, and its encoded length.
    Mouse(MouseEvent, usize),
    /// The beginning of a paste, and its encoded length.
    PasteBegin(usize),
    /// Bytes that encode neither: a terminal's reply to a query, or noise.
    Skip(usize),
    /// A sequence of which more bytes are needed.
    Incomplete,
}

impl InputParser {
    /// Parses `bytes` and appends each completed event to `out`.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<InputEvent>) {
        for chunk in bytes.chunks(MAX_SEQUENCE_BYTES) {
            self.pending.extend_from_slice(chunk);
            self.parse_pending(out);
            if self.pending.len() > MAX_SEQUENCE_BYTES {
                self.pending.clear();
            }
        }
    }

    /// Returns how long to wait for the rest of an incomplete sequence or paste; `None` if there is none.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.paste {
            Some(_) => Some(PASTE_TIMEOUT),
            None => (!self.pending.is_empty()).then_some(ESCAPE_TIMEOUT),
        }
    }

    /// Gives up waiting for the rest of a sequence or paste: emits the text received so far of a paste, or the Escape
    /// key if the pending bytes begin with an escape, and discards them.
    pub(crate) fn flush(&mut self, out: &mut Vec<InputEvent>) {
        if let Some(mut text) = self.paste.take() {
            text.append(&mut self.pending);
            out.push(InputEvent::Paste(String::from_utf8_lossy(&text).into_owned()));
        } else if self.pending.first() == Some(&0x1B) {
            out.push(InputEvent::Key(Key::plain(KeyCode::Esc)));
        }
        self.pending.clear();
    }

    /// Removes each complete event or reply from the front of the pending bytes.
    fn parse_pending(&mut self, out: &mut Vec<InputEvent>) {
        let mut at = 0;
        while at < self.pending.len() {
            if self.paste.is_some() {
                match self.parse_paste(at, out) {
                    Some(end) => at = end,
                    None => return,
                }
                continue;
            }
            match parse_prefix(&self.pending[at..]) {
                ParsedPrefix::Key(key, len) => {
                    out.push(InputEvent::Key(key));
                    at += len;
                }
                ParsedPrefix::Mouse(mouse, len) => {
                    out.push(InputEvent::Mouse(mouse));
                    at += len;
                }
                ParsedPrefix::PasteBegin(len) => {
                    self.paste = Some(Vec::new());
                    at += len;
                }
                ParsedPrefix::Skip(len) => at += len,
                ParsedPrefix::Incomplete => break,
            }
        }
        self.pending.drain(..at);
    }

    /// Moves the pending bytes from `at` on to the paste in progress. Returns where the paste ends in the pending
    /// bytes; `None` if its end has not arrived: then only what may be the beginning of the end stays pending.
    fn parse_paste(&mut self, at: usize, out: &mut Vec<InputEvent>) -> Option<usize> {
        let rest = &self.pending[at..];
        let end = rest.windows(PASTE_END.len()).position(|bytes| bytes == PASTE_END);
        let text = end.unwrap_or_else(|| {
            let partial = (1..PASTE_END.len()).rev().find(|len| rest.ends_with(&PASTE_END[..*len]));
            rest.len() - partial.unwrap_or(0)
        });
        let paste = self.paste.get_or_insert_default();
        paste.extend_from_slice(&rest[..text.min(MAX_PASTE_BYTES - paste.len())]);
        if end.is_none() {
            self.pending.drain(..at + text);
            return None;
        }
        let paste = self.paste.take().unwrap_or_default();
        out.push(InputEvent::Paste(String::from_utf8_lossy(&paste).into_owned()));
        Some(at + text + PASTE_END.len())
    }
}

/// Parses the key, mouse event or reply that `bytes` begins with.
fn parse_prefix(bytes: &[u8]) -> ParsedPrefix {
    match bytes {
        [0x1B] => ParsedPrefix::Incomplete,
        _ if bytes.starts_with(PASTE_BEGIN) => ParsedPrefix::PasteBegin(PASTE_BEGIN.len()),
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
            ParsedPrefix::PasteBegin(_) => ParsedPrefix::Key(Key::plain(KeyCode::Esc), 1),
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
