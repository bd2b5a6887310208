//! Tests of the estimated length of frames.

use super::*;
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{
        Open, ResetCode, UserAddresses,
        binary::{CHECKSUMS, FrameCodec, PUBLIC_ADDRESS},
    },
};

/// An estimate that is too low would encode more ahead of the socket than intended.
#[test]
fn no_control_frame_is_longer_than_estimated() {
    let (key, priority) = (StreamKey::new(UserChannelId::new(1), 1), Priority::default());
    let open = |user: Option<&str>| {
        let user = user.map(|user| user.parse().unwrap());
        let user = user.map(|user| UserAddresses { client: user, public: Some(user) });
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
        FrameCodec::with_features(CHECKSUMS | PUBLIC_ADDRESS).encoder.encode(&frame, &mut encoded);
        let (length, estimate) = (encoded.len(), Transmit::Frame(frame).estimated_len());
        assert!(length <= estimate, "{length} bytes, estimated at {estimate}");
    }
}

/// One system call sends the messages of many streams from one buffer, and bulk data from where it was read to.
#[test]
fn small_frames_are_encoded_into_one_piece_and_large_payloads_are_not_copied() {
    let data = |stream, len: usize| {
        let payload = Bytes::from(vec![stream as u8; len]);
        Frame::Data { stream, offset: u64::from(stream) << 20, fin: false, payload }
    };
    let (small, large) = (data(3, MAX_COPIED_PAYLOAD), data(4, MAX_COPIED_PAYLOAD + 1));
    let Frame::Data { payload: large_payload, .. } = &large else { panic!("a DATA frame") };
    let frames = [data(1, 100), Frame::Ping { token: 7 }, data(2, 0), small, large.clone(), data(5, 10)];
    let mut queue = WriteQueue::new(FrameEncoder::checked(), None);
    let (mut encoder, mut expected) = (FrameEncoder::checked(), BytesMut::new());
    for frame in &frames {
        encoder.encode(frame, &mut expected);
        queue.push(Transmit::Frame(frame.clone()));
        assert_eq!(queue.queued_bytes(), expected.len());
    }
    queue.split_arena();
    assert_eq!(queue.chunks.iter().flatten().copied().collect::<Vec<u8>>(), expected);
    assert_eq!(
        queue.chunks.len(),
        3,
        "the frames before the large payload, that payload, and the last frame"
    );
    assert_eq!(queue.chunks[1].as_ptr(), large_payload.as_ptr());
}

/// What waits for a socket that takes nothing is bounded by what is encoded at most, and one frame.
#[test]
fn no_more_is_encoded_ahead_than_the_socket_may_take_at_once() {
    let mut queue = WriteQueue::new(FrameEncoder::checked(), None);
    for last_taken in [0, MIN_QUEUED_BYTES, MAX_QUEUED_BYTES, usize::MAX] {
        queue.last_taken = last_taken;
        while queue.bytes_to_encode() > 0 {
            let payload = Bytes::from(vec![0; queue.bytes_to_encode().min(4096)]);
            queue.push(Transmit::Frame(Frame::Data { stream: 1, offset: 0, fin: false, payload }));
        }
        let most = queue.target_bytes() + MAX_DATA_HEADER;
        assert!((MIN_QUEUED_BYTES..=most).contains(&queue.queued_bytes()), "{}", queue.queued_bytes());
    }
    assert!(queue.queued_bytes() <= MAX_QUEUED_BYTES + MAX_DATA_HEADER);
}
