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

#[test]
fn a_row_whose_width_terminals_disagree_about_is_painted_whole() {
    for name in
        ["\u{1f1e9}\u{1f1ea}", "\u{915}\u{94d}\u{937}", "e\u{301}", "\u{1f469}\u{200d}\u{1f4bb}", "\u{639}"]
    {
        let mut writer = FrameWriter::new(Size::new(20, 3));
        paint(&mut writer, &format!("{name} 17 streams"));
        let changed = paint(&mut writer, &format!("{name} 18 streams")).unwrap();
        let erased = changed.find("\x1b[1;1H\x1b[2K").unwrap_or_else(|| panic!("{name}: {changed:?}"));
        assert!(changed[erased..].contains(name) && changed.contains("streams"), "{changed:?}");
        // The cursor is placed behind the name.
        let behind = &changed[changed.find(name).unwrap() + name.len()..];
        assert!(behind.starts_with("\x1b["), "{behind:?}");
        let gone = paint(&mut writer, "edge 18 streams").unwrap();
        assert!(gone.contains("\x1b[2K") && gone.contains("edge 18 streams"), "{gone:?}");
        assert!(!paint(&mut writer, "edge 19 streams").unwrap().contains("\x1b[2K"));
    }
    for name in [
        "edge",
        "r\u{e9}seau",
        "\u{441}\u{435}\u{442}\u{44c}",
        "\u{4e2d}\u{6587}",
        "\u{25b8} \u{2588}\u{28ff}",
    ] {
        let mut writer = FrameWriter::new(Size::new(20, 3));
        paint(&mut writer, &format!("{name} 17"));
        assert!(!paint(&mut writer, &format!("{name} 18")).unwrap().contains("\x1b[2K"), "{name}");
    }
}
