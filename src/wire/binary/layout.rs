//! Constants of the binary layout: version, features, field lengths, limits.

/// The protocol version that this side speaks.
///
/// Version 2 replaced the English refusals of version 1 by the codes of REFUSED, removed BLOCKED and the unused fields
/// of HELLO, WELCOME and GOAWAY, and added CHANNELS, RETIRE and LOST.
pub const VERSION: u16 = 2;

/// Feature bit: frames carry checksums, see [`binary`](super). For channels without TLS, which has its own.
pub const CHECKSUMS: u32 = 1;

/// Feature bit: OPEN carries the address that the user connected to as well, see [`binary`](super).
pub const PUBLIC_ADDRESS: u32 = 2;

/// Feature bit: ADDPROXY may name the networks of the users that the proxy admits, see [`binary`](super).
pub const USER_NETWORKS: u32 = 4;

/// Feature bit: requests for services are numbered and may be withdrawn, see [`binary`](super).
pub const SERVICES: u32 = 8;

/// The first bytes of a binary connection. 0xF5 cannot begin UTF-8 text, so the first byte tells the formats apart; the
/// CR LF at the end exposes a transport that rewrites line ends.
pub const PREFACE: [u8; 8] = *b"\xF5UNDRP\r\n";

/// Length of a frame header, in bytes, without the checksum.
pub const HEADER: usize = 8;

/// Length of a frame's checksum field, in bytes; present if [`CHECKSUMS`] is in force.
pub(super) const CHECKSUM_LEN: usize = 4;

/// The longest payload of a DATA frame, in bytes.
pub const MAX_PAYLOAD: usize = 256 << 10;

/// The longest frame body after the handshake, in bytes: DATA with the longest payload. A version of the protocol fixes
/// it; it is not negotiated.
pub const MAX_FRAME: usize = MAX_PAYLOAD + DATA_FIXED;

/// The longest frame body during the handshake, in bytes: HELLO with a name of 255 bytes. Until the peer is
/// authenticated, the decoder is limited to this, so that it cannot be made to buffer [`MAX_FRAME`] bytes.
pub const MAX_HANDSHAKE: usize = HELLO_FIXED + MAX_NAME;

/// Exclusive upper bound of stream offsets, 2^62. No stream comes near it, and an offset plus a length or a window
/// cannot overflow 64 bits.
pub const MAX_OFFSET: u64 = 1 << 62;

/// The longest proxy name in HELLO, in bytes: what its length byte can express.
pub(super) const MAX_NAME: usize = u8::MAX as usize;

/// Length of HELLO's body without the name, in bytes.
pub(super) const HELLO_FIXED: usize = 48;

/// Length of WELCOME's body without the resume secret, in bytes.
pub(super) const WELCOME_FIXED: usize = 70;

/// Length of the resume secret in WELCOME, in bytes.
pub(super) const SECRET_LEN: usize = 32;

/// Length of OPEN's body without addresses, in bytes.
pub(super) const OPEN_FIXED: usize = 18;

/// Length of DATA's body without the payload, in bytes.
pub(super) const DATA_FIXED: usize = 12;

/// Length of a stream key in MESSAGE, in bytes.
pub(super) const KEY_LEN: usize = 7;

/// The only flag bit that a frame can have. Its meaning depends on the type: a resume secret in WELCOME, END in DATA, a
/// stream key in MESSAGE.
pub(super) const FLAG: u8 = 0x01;
