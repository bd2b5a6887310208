//! Diffs each frame against the previous one and writes the difference in one synchronised update.

use std::io::{self, Write};

use ratatui::{
    backend::{Backend, CrosstermBackend},
    buffer::{Buffer, Cell},
    layout::{Rect, Size},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Tty;

/// Initial capacity, in bytes, of the buffer for one encoded frame: a full repaint of a large terminal fits.
const FRAME_CAPACITY: usize = 64 * 1024;
/// Begins a synchronised update (DEC private mode 2026).
const BEGIN_UPDATE: &[u8] = b"\x1b[?2026h";
/// Ends a synchronised update.
const END_UPDATE: &[u8] = b"\x1b[?2026l";
/// Resets all attributes and erases the display.
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

/// The double-buffered output side of the terminal.
///
/// It replaces ratatui's `Terminal`, which asks for the terminal's size before each frame, flushes in the middle of a
/// frame, and whose `clear` asks the terminal for its cursor position and fails where no answer comes. Only the diff
/// of two buffers is needed here, written as one synchronised update in one `write`.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    /// The cells that the terminal shows: the last frame.
    shown: Buffer,
    /// The cells of the frame that is being drawn.
    next: Buffer,
    /// The escape sequences of the encoded frame.
    encoded: Vec<u8>,
    /// Escape sequences besides the cells (mouse mode, clipboard) that are sent with the next frame.
    pending_sequences: Vec<u8>,
    /// Whether the terminal's contents are unknown, so that the next frame clears it and paints every cell.
    needs_full_repaint: bool,
}

impl FrameWriter {
    /// Creates a writer for a terminal of this size whose contents are unknown.
    pub(crate) fn new(size: Size) -> Self {
        let area = Rect::from((ratatui::layout::Position::ORIGIN, size));
        Self {
            shown: Buffer::empty(area),
            next: Buffer::empty(area),
            encoded: Vec::with_capacity(FRAME_CAPACITY),
            pending_sequences: Vec::new(),
            needs_full_repaint: true,
        }
    }

    /// Takes over a new size and makes the next frame clear the terminal and paint every cell.
    pub(crate) fn invalidate(&mut self, size: Size) {
        let area = Rect::from((ratatui::layout::Position::ORIGIN, size));
        self.shown.resize(area);
        self.next.resize(area);
        self.needs_full_repaint = true;
    }

    /// Queues an escape sequence that is written with the next frame.
    pub(crate) fn queue_sequence(&mut self, bytes: &[u8]) {
        self.pending_sequences.extend_from_slice(bytes);
    }

    /// Draws a frame with `draw` and writes what changed to the terminal.
    ///
    /// # Errors
    /// The write fails: the terminal has disappeared.
    pub(crate) fn paint(&mut self, tty: &Tty, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        let frame = self.compose(draw)?;
        if frame.is_empty() { Ok(()) } else { tty.write_frame(frame) }
    }

    /// Draws a frame with `draw` and returns the bytes to write: empty if no cell changed and no sequence is queued.
    ///
    /// # Errors
    /// None in practice: the frame is encoded into memory.
    pub(crate) fn compose(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<&[u8]> {
        self.next.reset();
        draw(&mut self.next);
        Ok(if self.encode()? { &self.encoded } else { &[] })
    }

    /// Encodes the difference between the two buffers and swaps them. Returns whether there is anything to write.
    fn encode(&mut self) -> io::Result<bool> {
        self.encoded.clear();
        self.encoded.extend_from_slice(BEGIN_UPDATE);
        self.encoded.extend_from_slice(&self.pending_sequences);
        if self.needs_full_repaint {
            self.shown.reset();
            self.encoded.extend_from_slice(CLEAR);
        }
        let changes: Vec<_> = self.shown.diff_iter(&self.next).collect();
        let is_changed = self.needs_full_repaint || !self.pending_sequences.is_empty() || !changes.is_empty();
        let mut fragile_rows: Vec<u16> = changes.iter().map(|(_, y, _)| *y).collect();
        fragile_rows.dedup();
        fragile_rows.retain(|y| [&self.shown, &self.next].into_iter().any(|buf| is_fragile_row(buf, *y)));
        let sound = changes.into_iter().filter(|(_, y, _)| !fragile_rows.contains(y));
        CrosstermBackend::new(&mut self.encoded).draw(sound)?;
        for y in fragile_rows {
            self.encode_row(y)?;
        }
        self.encoded.write_all(END_UPDATE)?;
        self.needs_full_repaint = false;
        self.pending_sequences.clear();
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(is_changed)
    }

    /// Encodes a whole row whose text the terminal may draw in another width than expected: erases it, so that nothing
    /// of a wider text is left, and places the cursor after each such text, so that what follows is in its column.
    fn encode_row(&mut self, y: u16) -> io::Result<()> {
        write!(self.encoded, "\x1b[{};1H\x1b[2K", y + 1)?;
        let mut cells: Vec<(u16, u16, &Cell)> = Vec::new();
        let mut x = 0;
        while x < self.next.area.width {
            let cell = &self.next[(x, y)];
            cells.push((x, y, cell));
            x += u16::try_from(cell.symbol().width()).unwrap_or(1).max(1);
        }
        // Each part begins with the position of the cursor.
        for part in cells.split_inclusive(|(_, _, cell)| is_fragile(cell.symbol())) {
            CrosstermBackend::new(&mut self.encoded).draw(part.iter().copied())?;
        }
        Ok(())
    }
}

/// Returns whether a row contains a text that terminals may draw in different widths.
fn is_fragile_row(buf: &Buffer, y: u16) -> bool {
    (0..buf.area.width).any(|x| is_fragile(buf[(x, y)].symbol()))
}

/// Returns whether terminals may draw `symbol` in another width than `unicode-width` computes. That counts grapheme
/// clusters: a flag (two regional indicators) has two cells, a Devanagari conjunct as many as its glyph. tmux 3.3 and
/// others add up the widths of the code points. Scripts without clusters, CJK and what the cockpit draws itself have
/// one width everywhere.
fn is_fragile(symbol: &str) -> bool {
    let mut chars = symbol.chars();
    let Some(c) = chars.next().filter(|c| !c.is_ascii()) else { return chars.next().is_some() };
    let is_single = chars.next().is_none();
    let is_sound = match c.width() {
        Some(1) => matches!(
            c,
            '\u{a0}'..='\u{2ff}'
                | '\u{370}'..='\u{482}'
                | '\u{48a}'..='\u{58f}'
                | '\u{1e00}'..='\u{1fff}'
                | '\u{2010}'..='\u{25ff}'
                | '\u{2713}'
                | '\u{2800}'..='\u{28ff}'
        ),
        Some(2) => {
            matches!(c, '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
        }
        _ => false,
    };
    !(is_single && is_sound)
}

#[cfg(test)]
mod tests;
