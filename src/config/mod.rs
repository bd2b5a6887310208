//! Settings of the operator, validated once: modules that use a setting need not check whether its value makes sense.
//!
//! The token goes directly from the command line to the code that uses it; the entries of named proxies hold the keys of
//! theirs, which `Debug` masks.

mod cockpit;
mod congestion;
mod descriptors;
mod mistakes;
mod near_miss;
mod ports;
mod proxy;
mod proxy_entries;
mod raw_table;
mod server;

pub use cockpit::{CockpitFile, CockpitFileError, REFRESH_RANGE};
pub use congestion::CongestionControl;
pub use descriptors::TooFewDescriptors;
pub use mistakes::{Mistake, Mistakes};
pub use near_miss::UnknownKey;
pub use ports::{PortRange, PortRangeError};
pub use proxy::{ChannelCount, ProxyConfig, ProxyFormat};
pub use proxy_entries::{MAX_PROXY_ENTRIES, ProxyEntries, ProxyEntry};
pub use raw_table::{RawKey, RawTable, RawValue};
pub use server::{ServerConfig, TextProxies};
