//! A line of text with a cursor, edited by keys.

/// The largest length of the typed text in bytes; further characters are ignored.
const MAX_LINE_BYTES: usize = 200;

/// A line of text that the operator edits, and the text cursor in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LineEdit {
    /// The text typed so far, without a line break.
    text: String,
    /// The position of the text cursor as a byte index into `text`, always at a character boundary.
    at: usize,
}

/// An editing operation on a [`LineEdit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEditOp {
    /// Inserts a character at the text cursor; control characters are ignored.
    Insert(char),
    /// Deletes the character before the text cursor.
    Backspace,
    /// Deletes the character after the text cursor.
    Delete,
    /// Deletes from the start of the word before the text cursor to the cursor.
    DeleteWord,
    /// Deletes the whole text.
    DeleteAll,
    Left,
    Right,
    Home,
    End,
}

impl LineEdit {
    /// Creates a line with this text, and the text cursor at its end.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at: text.len(), text }
    }

    /// Returns the text typed so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text before the text cursor, and the text from the cursor on.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    /// Applies one editing operation at the cursor. Does nothing where the line is full, or the cursor is at its end
    /// or its beginning.
    pub(crate) fn edit(&mut self, edit: LineEditOp) {
        match edit {
            LineEditOp::Insert(c) if self.text.len() < MAX_LINE_BYTES && !c.is_control() => {
                self.text.insert(self.at, c);
                self.at += c.len_utf8();
            }
            LineEditOp::Insert(_) => {}
            LineEditOp::Backspace => {
                if let Some(c) = self.text[..self.at].chars().next_back() {
                    self.at -= c.len_utf8();
                    self.text.remove(self.at);
                }
            }
            LineEditOp::Delete if self.at < self.text.len() => _ = self.text.remove(self.at),
            LineEditOp::Delete => {}
            LineEditOp::DeleteWord => {
                let kept = self.text[..self.at].trim_end();
                let from = kept
                    .rfind(char::is_whitespace)
                    .map_or(0, |at| at + kept[at..].chars().next().map_or(1, char::len_utf8));
                self.text.replace_range(from..self.at, "");
                self.at = from;
            }
            LineEditOp::DeleteAll => *self = Self::default(),
            LineEditOp::Left => self.at -= self.text[..self.at].chars().next_back().map_or(0, char::len_utf8),
            LineEditOp::Right => self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8),
            LineEditOp::Home => self.at = 0,
            LineEditOp::End => self.at = self.text.len(),
        }
    }
}

#[cfg(test)]
mod tests;
