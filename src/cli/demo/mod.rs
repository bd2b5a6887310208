//! The demo's world outside the tunnel: an origin to download from, users who do it and check every byte, and the
//! summary of what they saw.
//!
//! None of it knows the tunnel: an [`DemoOrigin`] is a proxy's target, a [`DemoLoad`] is given a public port, and the bytes of
//! a [`DemoFile`] follow from its seed, so that both ends know what should arrive.

mod body;
mod client;
mod http;
mod load;
mod origin;
mod pace;
mod summary;
mod tally;

pub use body::{ByteSize, ByteSizeError, DemoFile, FileVerifier, Sha256Sum, WrongByte};
pub use client::{GetResponse, TransferError, download, get, upload};
pub use http::TrafficCounters;
pub use load::{DemoLoad, DemoLoadOptions};
pub use origin::{DemoOrigin, DemoOriginOptions};
pub use pace::PacedRate;
pub use summary::DemoSummary;
pub use tally::{LoadCounters, LoadReport};
