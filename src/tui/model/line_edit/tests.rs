//! Tests of the editing of a line.

use super::*;

#[test]
fn a_line_is_edited_by_characters_not_by_bytes() {
    let mut line = LineEdit::new("grüße an alle");
    for (edit, text) in [
        (LineEditOp::DeleteWord, "grüße an "),
        (LineEditOp::DeleteWord, "grüße "),
        (LineEditOp::Left, "grüße "),
        (LineEditOp::Backspace, "grüß "),
        (LineEditOp::Left, "grüß "),
        (LineEditOp::Delete, "grü "),
        (LineEditOp::Insert('n'), "grün "),
        (LineEditOp::Home, "grün "),
        (LineEditOp::Backspace, "grün "),
        (LineEditOp::Insert('\u{1b}'), "grün "),
        (LineEditOp::End, "grün "),
        (LineEditOp::Right, "grün "),
        (LineEditOp::DeleteAll, ""),
        (LineEditOp::DeleteWord, ""),
    ] {
        line.edit(edit);
        assert_eq!(line.text(), text, "{edit:?}");
    }
}

#[test]
fn a_line_has_a_maximum_length() {
    let mut line = LineEdit::new("");
    for _ in 0..2 * MAX_LINE_BYTES {
        line.edit(LineEditOp::Insert('x'));
    }
    assert_eq!(line.text().len(), MAX_LINE_BYTES);
    line.edit(LineEditOp::Backspace);
    line.edit(LineEditOp::Insert('ü'));
    assert!(line.text().ends_with("xü"), "{}", line.text());
}
