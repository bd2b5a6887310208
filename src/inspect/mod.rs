//! Protocol detection: what a stream carries (HTTP/1 with the current request, TLS with its server name, SSH, other
//! TCP), recognised from the bytes that pass. The bytes are never modified or delayed, and only a bounded part is ever
//! copied.
//!
//! [`ProtocolInspector`] is the parser, without sockets, clocks or locks. `StreamInspector` connects it to the two
//! directions of a stream at low cost: one subtraction for each chunk of a bulk body, and one comparison once the
//! protocol is known or detection has ended.

mod chunked;
mod detect;
mod http;
mod inspector;
mod stream;
mod tls;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use inspector::ProtocolInspector;
pub(crate) use stream::{DetectionMemory, StreamInspector};
