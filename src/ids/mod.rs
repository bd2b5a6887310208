//! The names of things: newtypes for every identifier that crosses a room's border.
//!
//! Inside the program an identifier is a number; it becomes text only through `Display` and is read back only
//! through `FromStr`, so that a screen, a log line and a command can never disagree on how one is written.

mod keys;
mod policy;
mod priority;
mod rate;
mod text;

pub use keys::{ChannelId, Group, IdError, ProxyId, ServiceKey, StreamId, StreamKey, UserChannelId};
pub use policy::{MAX_WEIGHT, Policy};
pub use priority::Priority;
pub use rate::{Direction, Rate, RateLimits};
pub use text::clean;
