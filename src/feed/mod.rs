//! The serialized observation of a server: snapshots, changes, events and log records as numbered lines of JSON.
//!
//! The control socket sends them to clients that watch (`watch`), and a recording consists of them. An [`Encoder`]
//! turns successive [`Snapshot`](crate::telemetry::Snapshot)s into lines: the first one holds all of it, each later one
//! what has changed since the last line *that was made*. A producer that cannot send at the moment makes none, and the
//! next one covers the time between: a slow consumer costs nothing and misses no final value. A [`Decoder`] rebuilds
//! the snapshots.
//!
//! Nothing here reads a clock or a socket.
//!
//! ```text
//! {"seq":1,"snapshot":{"uptime_us":…,"totals":{…},"services":[…],"proxies":[…],"users":[…],"streams":[…],"selected":[…]}}
//! {"seq":2,"event":{"epoch_ms":…,"kind":{"stream_opened":{…}}}}
//! {"seq":3,"changes":{"uptime_us":…,"totals":{"down":…},"streams":{"rows":[…],"counters":{…},"gone":[…]}}}
//! {"seq":4,"log":{"epoch_ms":…,"level":"info","target":"lifecycle","text":"…"}}
//! {"seq":5,"missed":{"events":17}}
//! ```
//!
//! Events are in the order of emission, and so are log records. A state may contain the effect of an event that
//! follows it.
//!
//! Compatibility: a reader ignores fields, and lines, that it does not know, and a field that is added later has a
//! default. Lines of version 0.1 are kept in `tests/lines-0.1.jsonl`.

mod changes;
mod counted;
mod decode_error;
mod decoder;
mod encoder;
mod interest;
mod keyed;
mod line;
mod newer;
mod pace;
mod patch;
mod spread;

#[cfg(test)]
mod tests;

pub use changes::{Changes, CountedChanges, Counters, KeyedChanges};
pub use decode_error::DecodeError;
pub use decoder::{Decoded, Decoder};
pub use encoder::Encoder;
pub use interest::Interest;
pub use line::{Item, Line, Missed};
pub use pace::Pace;
