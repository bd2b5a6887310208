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

/// The code decides; the text that this version shows for a code does not, nor does a part of a version 1 sentence.
#[test]
fn free_text_is_no_code() {
    let shown = ResetCode::ProtocolViolation.to_string();
    let part = "error: the target refused the connection";
    for text in ["", "it broke", shown.as_str(), part, "the target refused", "KILLED by a cat", "killed"] {
        assert_eq!(ResetCode::from_text_reason(text.as_bytes()), None, "{text}");
    }
    assert_eq!(ResetCode::from_text_reason(b"KILLED: whatever follows"), Some(ResetCode::Killed));
}

/// Regression test: a text proxy of version 1 that was stopped looked like a target that had failed.
#[test]
fn every_sentence_of_version_1_is_read_as_its_code() {
    for (sentence, code) in [
        ("killed by the operator", ResetCode::Killed),
        ("the user's connection failed", ResetCode::UserIoError),
        ("the target's connection failed", ResetCode::TargetIoError),
        ("the target refused the connection", ResetCode::TargetRefused),
        ("the target did not answer in time", ResetCode::TargetTimeout),
        ("the target could not be reached", ResetCode::TargetUnreachable),
        ("the peer is shutting down", ResetCode::Shutdown),
        ("the protocol was broken", ResetCode::ProtocolViolation),
        ("the channel was lost", ResetCode::ChannelLost),
        ("no such stream", ResetCode::UnknownStream),
        ("a limit was reached", ResetCode::LimitExceeded),
        ("an internal error", ResetCode::Internal),
    ] {
        assert_eq!(ResetCode::from_text_reason(sentence.as_bytes()), Some(code), "{sentence}");
    }
    let codes = VERSION_1_REASONS.map(|(_, code)| code);
    assert_eq!(codes, ResetCode::ALL[..codes.len()], "one sentence for each code of that version");
}
