//! Identifiers: a newtype for each one that crosses a module boundary.
//!
//! Inside the program an identifier is a number. `Display` is the only way to print one and `FromStr` the only way to
//! parse one, so that screens, log lines and commands always agree on the notation.

mod address_block;
mod byte_size;
mod error;
mod hex;
mod keys;
mod near_miss;
mod networks;
mod next_free;
mod operator;
mod policy;
mod priority;
mod proxy_protocol;
mod rate;
pub(crate) mod serde_text;
mod text;
mod user_id_key;

pub use address_block::AddressBlock;
pub use byte_size::{ByteSize, format_bytes, parse_bytes};
pub use error::IdError;
pub(crate) use hex::{decode_hex, encode_hex};
pub use keys::{ChannelId, Group, ProxyId, ServiceKey, StreamId, StreamKey, UserChannelId, is_plain_name};
pub(crate) use near_miss::{near_miss, near_miss_hint};
pub use networks::{Network, NetworkError, NetworkRefusal, NetworkSet, UserNetworks};
pub use next_free::next_free_id;
pub use operator::Operator;
pub use policy::{MAX_WEIGHT, Policy};
pub use priority::Priority;
pub use proxy_protocol::ProxyProtocolVersion;
pub use rate::{Direction, Rate, RateLimits};
pub use text::clean;
pub use user_id_key::UserIdKey;
