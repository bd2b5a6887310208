//! What travels between server and proxy: the text format, the binary format and the handshake.
//!
//! Both formats come in on one listener and are told apart by their first byte: [`binary::PREFACE`] begins with a
//! byte that no text begins with.

mod frame;
mod message;

pub mod binary;
pub mod handshake;
pub mod text;

pub use frame::{Frame, Hello, HelloMode, Open, ResetCode, Welcome};
pub use message::{ActionError, AddProxy, TunnelAction, TunnelMessage};
