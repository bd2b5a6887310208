use std::io::{self, Write};

use ratatui::{
    backend::{Backend, CrosstermBackend},
    buffer::Buffer,
    layout::{Rect, Size},
};

use super::Tty;

/// Large enough for a whole repaint of a large screen.
const FRAME_CAPACITY: usize = 64 * 1024;
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

/// What is on the terminal, and what shall be.
///
/// ratatui's `Terminal` is not used: it asks for the size before each frame, flushes in the middle of one, and its
/// `clear` asks the terminal for its cursor and fails where nothing answers. All that is needed of it is the diff of
/// two buffers, written as one synchronised update in one write.
#[derive(Debug)]
pub(crate) struct Screen {
    shown: Buffer,
    next: Buffer,
    frame: Vec<u8>,
    /// What the terminal is to be told besides, with the next frame.
    orders: Vec<u8>,
    stale: bool,
}

impl Screen {
    /// A screen of which nothing is known.
    pub(crate) fn new(size: Size) -> Self {
        let area = Rect::from((ratatui::layout::Position::ORIGIN, size));
        Self {
            shown: Buffer::empty(area),
            next: Buffer::empty(area),
            frame: Vec::with_capacity(FRAME_CAPACITY),
            orders: Vec::new(),
            stale: true,
        }
    }

    /// Forgets what is on the terminal: the next frame paints all of it.
    pub(crate) fn invalidate(&mut self, size: Size) {
        let area = Rect::from((ratatui::layout::Position::ORIGIN, size));
        self.shown.resize(area);
        self.next.resize(area);
        self.stale = true;
    }

    /// Tells the terminal this with the next frame.
    pub(crate) fn order(&mut self, bytes: &[u8]) {
        self.orders.extend_from_slice(bytes);
    }

    /// Paints what `draw` leaves in the buffer.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn paint(&mut self, tty: &Tty, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        let frame = self.compose(draw)?;
        if frame.is_empty() { Ok(()) } else { tty.write_frame(frame) }
    }

    /// Builds a frame and gives what is to be written; nothing where nothing changed.
    ///
    /// # Errors
    /// None that could happen: the frame is written to memory.
    pub(crate) fn compose(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<&[u8]> {
        self.next.reset();
        draw(&mut self.next);
        Ok(if self.encode()? { &self.frame } else { &[] })
    }

    /// Fills `frame` with what changed; says whether anything did.
    fn encode(&mut self) -> io::Result<bool> {
        self.frame.clear();
        self.frame.extend_from_slice(BEGIN);
        self.frame.extend_from_slice(&self.orders);
        if self.stale {
            self.shown.reset();
            self.frame.extend_from_slice(CLEAR);
        }
        let mut changes = self.shown.diff_iter(&self.next).peekable();
        let changed = self.stale || !self.orders.is_empty() || changes.peek().is_some();
        CrosstermBackend::new(&mut self.frame).draw(changes)?;
        self.frame.write_all(END)?;
        self.stale = false;
        self.orders.clear();
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    fn paint(screen: &mut Screen, text: &str) -> Option<String> {
        screen.next.reset();
        screen.next.set_string(0, 0, text, Style::new());
        let changed = screen.encode().unwrap();
        changed.then(|| String::from_utf8(screen.frame.clone()).unwrap())
    }

    #[test]
    fn a_frame_is_one_synchronised_update_and_only_the_first_clears() {
        let mut screen = Screen::new(Size::new(20, 3));
        let first = paint(&mut screen, "hello").unwrap();
        assert!(first.starts_with("\x1b[?2026h") && first.ends_with("\x1b[?2026l"), "{first:?}");
        assert!(first.contains("\x1b[2J") && first.contains("hello"));
        let second = paint(&mut screen, "hallo").unwrap();
        assert!(second.contains('a') && !second.contains("hallo"), "{second:?}");
        assert!(!second.contains("\x1b[2J"));
        assert_eq!(paint(&mut screen, "hallo"), None);
        screen.invalidate(Size::new(10, 2));
        assert!(paint(&mut screen, "hallo").unwrap().contains("\x1b[2J"));
    }
}
