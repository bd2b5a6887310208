//! Diffs each frame against the previous one and writes the difference in one synchronised update.

use std::io::{self, Write};

use ratatui::{
    backend::{Backend, CrosstermBackend},
    buffer::Buffer,
    layout::{Rect, Size},
};

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
        let mut changes = self.shown.diff_iter(&self.next).peekable();
        let is_changed =
            self.needs_full_repaint || !self.pending_sequences.is_empty() || changes.peek().is_some();
        CrosstermBackend::new(&mut self.encoded).draw(changes)?;
        self.encoded.write_all(END_UPDATE)?;
        self.needs_full_repaint = false;
        self.pending_sequences.clear();
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(is_changed)
    }
}

#[cfg(test)]
mod tests;
