//! Unit tests of the codes of ERROR messages.

use super::*;
use crate::wire::TunnelMessage;

#[test]
fn every_code_is_read_from_its_message_with_its_sentence() {
    for code in ErrorCode::ALL {
        let message = TunnelMessage::error(code, "port 22: not allowed");
        assert_eq!(message.data, format!("{}: port 22: not allowed", code.name()));
        assert_eq!(ErrorCode::split(&message.data), (Some(code), "port 22: not allowed".into()));
    }
}

#[test]
fn a_sentence_alone_has_no_code() {
    for data in ["", ":", "no", "port 80: in use", "PORT_IN_USED: x", "port_in_use: x", " PORT_IN_USE: x"] {
        assert_eq!(ErrorCode::split(data.as_bytes()), (None, data.into()), "{data}");
    }
    assert_eq!(ErrorCode::split(b"CORRUPTION"), (Some(ErrorCode::Corruption), "".into()));
    assert_eq!(ErrorCode::split(b"CORRUPTION:\xFF"), (Some(ErrorCode::Corruption), "\u{FFFD}".into()));
}

#[test]
fn an_error_of_the_channel_is_neither_an_answer_nor_permanent() {
    for code in ErrorCode::ALL {
        assert!(code.refuses_registration() || !code.is_permanent(), "{code:?}");
    }
    assert!(!ErrorCode::Corruption.refuses_registration());
    assert!(!ErrorCode::ProtocolViolation.refuses_registration());
}
