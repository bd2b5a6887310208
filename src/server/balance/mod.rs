//! Load balancing: selects the proxy of a service that serves the next stream.
//!
//! Works on any type that is a [`Candidate`]; it must not know what a proxy is.

mod load;
mod pool;
mod smooth_round_robin;

pub(super) use load::{ActiveStreamGuard, ProxyLoad};
pub(super) use pool::{Candidate, Member, Pool};
