//! The binary format, which underpass's own proxy uses: frame layout, encoder and decoder.
//!
//! A connection begins with the [`PREFACE`], which the proxy sends; then both sides send frames. A frame is a header of
//! [`HEADER`] bytes and a body. Every number is big-endian.
//!
//! ```text
//!  0      1       2         4               8
//!  | type | flags | 0     0 | body length   | body …
//! ```
//!
//! | frame | type | flags | body: field and its length in bytes | body length |
//! | --- | --- | --- | --- | --- |
//! | HELLO | 01 | | version 2, mode 1 (1 new, 2 join, 3 resume), reserved 4 (zero), features 4, nonce 16, link 16, epoch 4, length of the name 1, name | 48 to 303 |
//! | CHALLENGE | 02 | | nonce 32 | 32 |
//! | PROOF | 03 | | mac 32 | 32 |
//! | WELCOME | 04 | 1: has a resume secret | link 16, epoch 4, channel 2, features 4, max streams 4, first window 4, grace period in ms 4, resume secret 0 or 32, mac 32 | 70 or 102 |
//! | REFUSED | 05 | | code 2, version 2 | 4 |
//! | OPEN | 10 | | stream 4, user channel id 3, stream id 4, port 2, priority 1, window 4, user's address 0 or 4 or 16, user's port 0 or 2, public address 0 or as long as the user's, its port 0 or 2 | 18, 24, 30, 36 or 54 |
//! | OPEN_OK | 11 | | stream 4, window 4 | 8 |
//! | DATA | 12 | 1: END | stream 4, offset 8, payload | 12 or more |
//! | WINDOW | 13 | | stream 4, consumed 8, window 4 | 16 |
//! | RESET | 14 | | stream 4, code 2, final size 8 | 14 |
//! | PRIORITY | 16 | | stream 4, priority 1 | 5 |
//! | PING | 20 | | token 8 | 8 |
//! | PONG | 21 | | token 8 | 8 |
//! | GOAWAY | 23 | | code 2 | 2 |
//! | CHANNELS | 25 | | serial 4, count 2 | 6 |
//! | RETIRE | 26 | | | 0 |
//! | LOST | 27 | | channel 2 | 2 |
//! | MESSAGE | 24 | 1: has a stream key | user channel id 0 or 3, stream id 0 or 4, length of the action 1, action (as in the text format), data | 2 or more, 9 or more with a key |
//!
//! GOAWAY says that its sender leaves, unless its code is LINK_REPLACED (15): with it the server asks for another link,
//! and the proxy answers that it has one. Builds of version 2 from before that code take it for INTERNAL.
//!
//! Types are hexadecimal. Everything that is not in the table must be zero or absent: an unknown type, another flag,
//! another length, a set reserved byte or bit is a [`FrameError`], which ends the connection. [`VERSION`] and the
//! features decide what a later protocol may add.
//!
//! # Versions
//!
//! The preface, the header and the layout of HELLO are the same in every version, so that a server of any version can
//! read the version in HELLO. It must equal the server's own. A server refuses another version with REFUSED, which
//! names its own version; a proxy of version 1, which does not know REFUSED, gets a MESSAGE with the action `ERROR` and
//! a sentence that names both versions. A server of version 1 refuses in the same way, and a proxy shows its sentence.
//!
//! # Features
//!
//! Features are bits: HELLO offers them, and WELCOME selects those that are in force from the next frame on, in both
//! directions.
//!
//! | feature | bit | what it changes |
//! | --- | --- | --- |
//! | [`CHECKSUMS`] | 0 | frames carry checksums, as described below |
//! | [`PUBLIC_ADDRESS`] | 1 | OPEN carries the address and port that the user connected to, after the user's |
//! | [`USER_NETWORKS`] | 2 | ADDPROXY may have the argument `networks` |
//! | [`SERVICES`] | 3 | ADDPROXY may have a number, which its answer repeats; REMOVEPROXY |
//!
//! # Checked frames
//!
//! TCP's own checksum has 16 bits and ends at every relay. TLS detects corruption in transit; on a channel without TLS
//! the frames do it themselves:
//!
//! ```text
//!  0      1       2         4               8              12
//!  | type | flags | check   | body length   | checksum     | body …
//! ```
//!
//! The checksum is the CRC-32C of the header, with zeros for the check field, and of the body; it continues the
//! checksum of the preceding frame, which is 0 for the first. The check field is the same CRC up to the end of the
//! header, its upper half XOR its lower half, so that a corrupted length is detected at once and not after waiting for
//! as many bytes. Each direction has its own running checksum. A mismatch is a [`FrameError::Checksum`], and the whole
//! frame is discarded.
//!
//! The data of a MESSAGE with the action `ERROR` and without a stream key begins with the name of an
//! [`ErrorCode`](super::ErrorCode), a colon, and continues with a sentence for people.
//!
//! The action of a MESSAGE that registers a proxy is `ADDPROXY:port[:group[:targetPort[:weight[:networks[:number]]]]]`,
//! see [`AddProxy`](super::AddProxy). With the argument `networks` the data names those of the users that it admits,
//! such as `allow=10.0.0.0/8 deny=10.9.0.0/16`. The server answers with the action `RESPONSE` and the service as data,
//! `8080:default`, or with `ERROR`. A proxy registers for each of its services.
//!
//! With [`SERVICES`] a proxy numbers its requests, so that it can send many before the first answer. The answers are
//! then `RESPONSE:number` and `ERROR:number` with the same data, in any order. A request that is repeated under its
//! number is granted once: an answer is lost with its channel. `REMOVEPROXY:number:port` withdraws a registration: the
//! server opens no more streams of the port to this proxy, answers `RESPONSE:number`, and leaves open streams alone.
//! OPEN names the port of the service. A stream may arrive before the answer, and shortly after a removal; the proxy
//! resets the latter with NOT_SERVED (17).
//!
//! # Flow control
//!
//! OPEN and WINDOW of the server, and OPEN_OK and WINDOW of the proxy, grant the other side credit for one stream: it
//! may send up to the offset `consumed` + `window`, which never falls. Before OPEN_OK a server may send the first
//! window of WELCOME, so that a request does not wait for an RTT; a proxy that has no memory for it may reset the
//! stream. To avoid that, the server sends no more than 8 KiB on each stream and 4 MiB beyond that on all streams that
//! wait for OPEN_OK. Then the credit of OPEN_OK counts, or what was sent if that is more. A WINDOW that arrives before
//! OPEN_OK and says that nothing was consumed grants nothing.
//!
//! Offsets count bytes of one direction of a stream and stay below [`MAX_OFFSET`].
//!
//! An IPv6 address is sent without its flow label and scope id, which have a meaning on the server's host only.

mod checksum;
mod codec;
mod decode;
mod encode;
mod error;
mod frame_type;
mod layout;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use codec::FrameCodec;
pub use decode::{FrameDecoder, decode};
pub use encode::{FrameEncoder, encode};
pub(super) use encode::{hello_body, welcome_body_without_mac};
pub use error::FrameError;
pub use frame_type::FrameType;
pub use layout::{
    CHECKSUMS, HEADER, MAX_FRAME, MAX_HANDSHAKE, MAX_OFFSET, MAX_PAYLOAD, PREFACE, PUBLIC_ADDRESS, SERVICES,
    USER_NETWORKS, VERSION,
};
