//! Where the mux meets the world: a channel's driver, the pump between a stream and a socket, and the tasks that run
//! them.
//!
//! One [`Link`] holds the mux of one proxy behind a lock that is never held over a system call. Whoever has changed
//! something in it carries the consequences itself: the reader of a channel writes to the users' sockets, the reader of
//! a user's socket writes to the channel where it has read much. Little things wait until every task that is ready has
//! run, and go out together. A task is woken only for what did not fit.

mod channel;
mod endpoint;
mod flow;
mod handshake;
mod limit;
mod link;
mod listener;
mod outgoing;
#[cfg(target_os = "linux")]
mod reuse_port;
mod slabs;
mod sniff;
mod socket;
mod solo;
mod spin;
mod steering;
mod stopwatch;
mod stream;
mod tasks;
#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
mod tcp_info;
mod workers;

/// What `solo` is made of; its test puts others in their place.
mod sync {
    pub(super) use parking_lot::Mutex;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
}

pub use channel::{Attached, Drive};
pub use handshake::{FirstWords, Greeting, GreetingError, text_error};
pub use limit::{Limit, LimitCount, Limits};
pub use link::{Link, LinkEvents, NewStream};
pub use listener::Listener;
pub use slabs::Slabs;
pub use sniff::Sniffer;
pub use socket::{ChannelSocket, connect};
pub use steering::Steering;
pub use stopwatch::Answered;
pub use stream::{Ended, Stream, Untouched};
pub use tasks::Tasks;
pub use workers::{WorkerThreads, Workers};
