//! What a stream carries, read from the bytes that pass anyway: never altered, never delayed, never kept.
//!
//! [`ProtocolInspector`] is the reader, without sockets, clocks or locks; [`StreamInspector`] puts it beside a stream's two directions so
//! that a bulk body costs a subtraction for each chunk, and a stream that is understood, or never will be, costs a
//! comparison.

mod first;
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
pub(crate) use stream::StreamInspector;
