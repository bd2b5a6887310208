//! Unit tests of the names of reset codes in the text format.

use super::*;

#[test]
fn every_code_is_read_back_from_its_number_and_its_text_form() {
    for code in ResetCode::ALL {
        assert_eq!(ResetCode::from_wire(code as u16), code);
        assert_eq!(ResetCode::from_text_reason(code.to_text_reason().as_bytes()), Some(code));
        assert_eq!(ResetCode::from_text_reason(code.name().as_bytes()), Some(code));
    }
    assert_eq!(ResetCode::from_wire(999), ResetCode::Internal);
}

/// The code decides; a sentence that happens to equal the text of a code does not.
#[test]
fn free_text_is_no_code() {
    for text in ["", "it broke", "the target refused the connection", "KILLED by a cat", "killed"] {
        assert_eq!(ResetCode::from_text_reason(text.as_bytes()), None, "{text}");
    }
    assert_eq!(ResetCode::from_text_reason(b"KILLED: whatever follows"), Some(ResetCode::Killed));
}
