//! What the frame writer sends: one synchronised update a frame, and only what changed.

use ratatui::style::Style;

use super::*;

/// Draws `text` on an otherwise empty frame; `None` if nothing has to be written.
fn paint(writer: &mut FrameWriter, text: &str) -> Option<String> {
    writer.next.reset();
    writer.next.set_string(0, 0, text, Style::new());
    let is_changed = writer.encode().unwrap();
    is_changed.then(|| String::from_utf8(writer.encoded.clone()).unwrap())
}

#[test]
fn a_frame_is_one_synchronised_update_and_only_a_full_repaint_clears() {
    let mut writer = FrameWriter::new(Size::new(20, 3));
    let first = paint(&mut writer, "hello").unwrap();
    assert!(first.starts_with("\x1b[?2026h") && first.ends_with("\x1b[?2026l"), "{first:?}");
    assert!(first.contains("\x1b[2J") && first.contains("hello"));
    let second = paint(&mut writer, "hallo").unwrap();
    assert!(second.contains('a') && !second.contains("hallo"), "{second:?}");
    assert!(!second.contains("\x1b[2J"));
    assert_eq!(paint(&mut writer, "hallo"), None);
    writer.invalidate(Size::new(10, 2));
    assert!(paint(&mut writer, "hallo").unwrap().contains("\x1b[2J"));
}
