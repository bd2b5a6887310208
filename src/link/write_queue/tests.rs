//! Tests of the estimated length of frames.

use super::*;
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{Open, ResetCode},
};

/// An estimate that is too low would encode more ahead of the socket than intended.
#[test]
fn no_control_frame_is_longer_than_estimated() {
    let (key, priority) = (StreamKey::new(UserChannelId::new(1), 1), Priority::default());
    let open = |user: Option<&str>| {
        let user = user.map(|user| user.parse().unwrap());
        Frame::Open(Open { stream: 1, key, port: 80, priority, window: 1 << 20, user })
    };
    let frames = [
        open(None),
        open(Some("192.0.2.1:443")),
        open(Some("[2001:db8::1]:443")),
        Frame::OpenOk { stream: 1, window: 1 << 20 },
        Frame::Data { stream: 1, offset: 0, fin: true, payload: Bytes::new() },
        Frame::Priority { stream: 1, priority },
        Frame::Ping { token: 1 },
        Frame::GoAway { code: ResetCode::Shutdown },
    ];
    for frame in frames {
        let mut encoded = BytesMut::new();
        FrameEncoder::checked().encode(&frame, &mut encoded);
        let (length, estimate) = (encoded.len(), Transmit::Frame(frame).estimated_len());
        assert!(length <= estimate, "{length} bytes, estimated at {estimate}");
    }
}
