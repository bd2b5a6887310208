//! The demo's world outside the tunnel: an origin to download from, users who do it and check every byte, and the
//! summary of what they saw.
//!
//! None of it knows the tunnel: an [`Origin`] is a proxy's target, a [`Load`] is given a public port, and the bytes of
//! a [`File`] follow from its seed, so that both ends know what should arrive.

mod body;
mod client;
mod http;
mod load;
mod origin;
mod pace;
mod summary;
mod tally;

pub use body::{Checksum, File, Size, SizeError, Verifier, WrongByte};
pub use client::{Fault, Page, download, get, upload};
pub use http::Traffic;
pub use load::{Load, LoadOptions};
pub use origin::{Origin, OriginOptions};
pub use pace::Pace;
pub use summary::Summary;
pub use tally::{Tally, TallyReport};
