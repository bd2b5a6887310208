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
