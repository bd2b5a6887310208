//! Messages between server and proxy: the text format, the binary format and the binary format's handshake.
//!
//! Everything here is sans-IO: no socket, task or clock. Both formats are accepted on one listener; a connection's
//! first byte tells them apart, because [`binary::PREFACE`] begins with a byte that cannot begin UTF-8 text.
//!
//! Decisions are made on codes ([`ResetCode`], [`RefusalCode`], [`ErrorCode`]), never on sentences; the text for people
//! is made where a code is shown.

mod error_code;
mod frame;
mod message;
mod refusal_code;
mod reset_code;

pub mod binary;
pub mod handshake;
pub mod proxy_protocol;
pub mod text;

pub use error_code::ErrorCode;
pub use frame::{Frame, Hello, HelloMode, Open, UserAddresses, Welcome};
pub use message::{ActionError, AddProxy, RemoveProxy, TunnelAction, TunnelMessage};
pub use refusal_code::RefusalCode;
pub use reset_code::ResetCode;
