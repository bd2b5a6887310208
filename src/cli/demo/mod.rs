//! What the demo puts around the tunnel: an HTTP origin to download from, users who download and upload and verify
//! every byte, and the summary of what those users counted.
//!
//! Nothing here depends on the tunnel: a [`DemoOrigin`] is the target of a proxy, a [`DemoLoad`] is given a public
//! port, and the bytes of a [`DemoFile`] follow from its seed, so that both ends know what has to arrive.

mod client;
mod counters;
mod file;
mod http;
mod load;
mod origin;
mod rate_limiter;
mod summary;

pub use client::{GetResponse, TransferError, download, get, upload};
pub use counters::{LoadCounters, LoadReport};
pub use file::{DemoFile, FileVerifier, Sha256Sum, WrongByte};
pub use http::TrafficCounters;
pub use load::{DemoLoad, DemoLoadOptions};
pub use origin::{DemoOrigin, DemoOriginOptions};
pub use rate_limiter::DemoRateLimiter;
pub use summary::DemoSummary;
