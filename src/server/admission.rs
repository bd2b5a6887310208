//! Admission control of the tunnel port: limits how many connections may be unauthenticated at the same time.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;

/// Limits the connections on the tunnel port that have not completed their handshake, in total and per client IP
/// address. Such a connection costs a file descriptor and memory before its peer has proved that it knows the token.
#[derive(Debug)]
pub(super) struct Admission {
    /// The maximum number of unauthenticated connections in total.
    max_pending: usize,
    /// The maximum number of unauthenticated connections from one client IP address.
    max_pending_per_ip: usize,
    /// How many connections are unauthenticated now.
    pending: Mutex<PendingCounts>,
}

/// How many connections have not completed their handshake now.
#[derive(Debug, Default)]
struct PendingCounts {
    /// Unauthenticated connections from all addresses.
    total: usize,
    /// Unauthenticated connections by client IP address. Only addresses with at least one have an entry.
    by_ip: HashMap<IpAddr, usize>,
}

/// One admitted connection that has not completed its handshake. Dropping it, at the end of the handshake, uncounts
/// it, so that another connection may be admitted.
#[derive(Debug)]
pub(super) struct PendingConnection<'a> {
    /// The counts that include this connection until it is dropped.
    admission: &'a Admission,
    /// The client's IP address.
    ip: IpAddr,
}

impl Admission {
    /// Creates the admission control with these two limits and no unauthenticated connection.
    pub(super) fn new(max_pending: usize, max_pending_per_ip: usize) -> Self {
        Self { max_pending, max_pending_per_ip, pending: Mutex::default() }
    }

    /// Admits one connection from `ip` to the handshake. Returns `None` if the total or the per-address limit is
    /// reached.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<PendingConnection<'_>> {
        let mut pending = self.pending.lock();
        let from_ip = pending.by_ip.get(&ip).copied().unwrap_or_default();
        if pending.total >= self.max_pending || from_ip >= self.max_pending_per_ip {
            return None;
        }
        pending.total += 1;
        pending.by_ip.insert(ip, from_ip + 1);
        Some(PendingConnection { admission: self, ip })
    }
}

impl Drop for PendingConnection<'_> {
    fn drop(&mut self) {
        let mut pending = self.admission.pending.lock();
        pending.total -= 1;
        if let Some(from_ip) = pending.by_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                pending.by_ip.remove(&self.ip);
            }
        }
    }
}
