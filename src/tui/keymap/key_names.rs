//! Names of keys in the settings: `d`, `D`, `ctrl-k`, `alt-x`, `shift-up`, `F5`, `space`. crokey parses them; what a
//! terminal cannot send, or what must keep its meaning, is refused.

use crokey::OneToThree;

use crate::tui::terminal::{Key, KeyCode, KeyModifiers};

/// Control letters that terminals send as the bytes of other keys (`ctrl-h` is Backspace, `ctrl-i` Tab, `ctrl-j` and
/// `ctrl-m` Enter), and `ctrl-c`, which always drains and quits.
const RESERVED_CONTROL_LETTERS: &str = "chijm";

/// The highest function key that terminals send.
const MAX_FUNCTION_KEY: u8 = 12;

/// The text in the settings does not name a key that can be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "«{0}» is not the name of a key that can be bound; examples: d, D, ctrl-k, alt-x, shift-up, F5, space, enter, delete"
)]
pub(crate) struct KeyNameError(String);

/// Parses the name of a key. One character is that character, upper-case letters included; all other names ignore
/// case.
///
/// # Errors
/// The name is unknown, or no terminal sends such a key, or the key is reserved.
pub(crate) fn parse_key(name: &str) -> Result<Key, KeyNameError> {
    let error = || KeyNameError(name.to_owned());
    let mut chars = name.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return if c.is_control() || c == ' ' { Err(error()) } else { Ok(Key::char(c)) };
    }
    let combination = crokey::parse(name).map_err(|_| error())?;
    let OneToThree::One(code) = combination.codes else { return Err(error()) };
    normalized(Key::new(code, combination.modifiers)).ok_or_else(error)
}

/// Returns the key as [`InputParser`](crate::tui::terminal::InputParser) reports it; `None` if no terminal sends it,
/// or if it is reserved.
fn normalized(key: Key) -> Option<Key> {
    const MODIFIERS: KeyModifiers = KeyModifiers::SHIFT.union(KeyModifiers::ALT).union(KeyModifiers::CONTROL);
    let Key { code, modifiers } = key;
    if !MODIFIERS.contains(modifiers) {
        return None;
    }
    let has = |modifier| modifiers.contains(modifier);
    match code {
        KeyCode::Char(c) if has(KeyModifiers::CONTROL) => {
            let is_sent = c == ' ' || (c.is_ascii_lowercase() && !RESERVED_CONTROL_LETTERS.contains(c));
            (is_sent && !has(KeyModifiers::SHIFT)).then_some(key)
        }
        // Terminals send an upper-case letter for Shift and a letter, and nothing special for Shift and another
        // character.
        KeyCode::Char(c) if has(KeyModifiers::SHIFT) => {
            c.is_ascii_uppercase().then(|| Key::new(code, modifiers.difference(KeyModifiers::SHIFT)))
        }
        KeyCode::Char(_) => Some(key),
        KeyCode::Tab if modifiers == KeyModifiers::SHIFT => Some(Key::new(KeyCode::BackTab, modifiers)),
        KeyCode::BackTab => (modifiers == KeyModifiers::SHIFT).then_some(key),
        // One byte each, which only Alt can precede (with an escape byte).
        KeyCode::Enter | KeyCode::Tab | KeyCode::Backspace => {
            KeyModifiers::ALT.contains(modifiers).then_some(key)
        }
        KeyCode::F(number) => (1..=MAX_FUNCTION_KEY).contains(&number).then_some(key),
        KeyCode::Up
        | KeyCode::Down
        | KeyCode::Left
        | KeyCode::Right
        | KeyCode::Home
        | KeyCode::End
        | KeyCode::PageUp
        | KeyCode::PageDown
        | KeyCode::Insert
        | KeyCode::Delete => Some(key),
        // Escape always closes what is open.
        _ => None,
    }
}

#[cfg(test)]
mod tests;
