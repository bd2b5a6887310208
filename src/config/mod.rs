//! Settings of the operator, validated once: modules that use a setting need not check whether its value makes sense.
//!
//! Holds no secrets: the token goes directly from the command line to the code that uses it.

mod cockpit;
mod congestion;
mod descriptors;
mod ports;
mod proxy;
mod server;

pub use cockpit::{CockpitFile, CockpitFileError, REFRESH_RANGE};
pub use congestion::CongestionControl;
pub use descriptors::TooFewDescriptors;
pub use ports::{PortRange, PortRangeError};
pub use proxy::{ChannelCount, ProxyConfig, ProxyFormat};
pub use server::{ServerConfig, TextProxies};
