//! Settings of the operator, validated once: modules that use a setting need not check whether its value makes sense.
//!
//! The token goes directly from the command line to the code that uses it; the entries of named proxies hold the keys
//! of theirs, which `Debug` masks.

mod cockpit;
mod congestion;
mod descriptors;
mod endpoint;
mod mistakes;
mod near_miss;
mod ports;
mod proxy;
mod proxy_entries;
mod proxy_format;
mod raw_table;
mod server;
mod services;

pub use cockpit::{CockpitFile, CockpitFileError, REFRESH_RANGE, user_directory};
pub use congestion::CongestionControl;
pub use descriptors::{SideUses, TooFewDescriptors, max_control_connections};
pub use endpoint::{Exposure, ServerEndpoint};
pub use mistakes::{Mistake, Mistakes};
pub use near_miss::UnknownKey;
pub use ports::{PortRange, PortRangeError};
pub use proxy::{ChannelCount, ProxyConfig};
pub use proxy_entries::{MAX_PROXY_ENTRIES, ProxyEntries, ProxyEntry};
pub use proxy_format::ProxyFormat;
pub use raw_table::{RawKey, RawTable, RawValue};
pub use server::{ServerConfig, TextProxies};
pub use services::{ServiceConfig, ServicesError};
