//! Admission control of the tunnel port: which connections may be unauthenticated at the same time.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    pending_table::{PendingSlot, PendingTable},
    ticket_rotation::LinkId,
};
use crate::ids::AddressBlock;

/// Bounds the connections on the tunnel port whose peer has not proved yet that it knows the token: each costs a file
/// descriptor, memory, and 30 to 45 µs of CPU time, whether it sends nothing or a wrong proof: one HMAC is not visible
/// in that, and a connection has no more.
///
/// Beside 20,000 connections that two programs held or opened again from 20,000 addresses, 14,000 a second, a proxy
/// resumed its link in 11 to 73 ms and another one registered in 27 to 58 ms.
///
/// Each new connection is admitted, and displaces one of the block that has most where a table is full. Connections
/// move from the first table to one of the others once they have said what they want. A proxy that resumes or joins its
/// link competes with unauthenticated connections for the moment until its HELLO is read only, which it sends with its
/// first packet; after that, only with those who know the random id of a link as well, and before all with those who
/// know its own.
///
/// No cookie is needed beyond that. TCP has shown that the address is real. What else a proxy could present in HELLO,
/// an eavesdropper on a channel without TLS could present, too, and so gets no further than to the slots of that one
/// link; behind TLS he does not learn the id either.
#[derive(Debug)]
pub(super) struct Admission {
    /// Connections whose first message has not arrived yet: half of all slots.
    unidentified: Arc<PendingTable<()>>,
    /// Connections that want a new link, or one that does not exist: a quarter of all slots.
    new_links: Arc<PendingTable<()>>,
    /// Connections that name an existing link and its ticket, by link: a quarter of all slots.
    known_links: Arc<PendingTable<LinkId>>,
}

/// One connection that is not authenticated yet. Dropping it frees its slot.
#[derive(Debug)]
pub(super) struct PendingConnection {
    /// The tables.
    admission: Arc<Admission>,
    /// The block of the client's address.
    block: AddressBlock,
    /// Cancelled when the connection was displaced by a newer one, and has to be closed.
    displaced: CancellationToken,
    /// The slot of the connection; `None` while it changes.
    _slot: Option<Slot>,
}

/// A slot in one of the tables of [`Admission`].
#[derive(Debug)]
enum Slot {
    /// A slot of `unidentified` or `new_links`.
    Anonymous(#[expect(dead_code, reason = "dropping it frees the slot")] PendingSlot<()>),
    /// A slot of `known_links`.
    Link(#[expect(dead_code, reason = "dropping it frees the slot")] PendingSlot<LinkId>),
}

impl Admission {
    /// Creates the admission control without a connection. At most `max_pending` connections may be unauthenticated.
    pub(super) fn new(max_pending: usize) -> Arc<Self> {
        let quarter = max_pending / 4;
        Arc::new(Self {
            unidentified: PendingTable::new(max_pending - 2 * quarter),
            new_links: PendingTable::new(quarter),
            known_links: PendingTable::new(quarter),
        })
    }

    /// Admits a new connection of a client in `block`.
    pub(super) fn admit(self: &Arc<Self>, block: AddressBlock) -> PendingConnection {
        let displaced = CancellationToken::new();
        let slot = self.unidentified.insert((), block, displaced.clone());
        PendingConnection { admission: self.clone(), block, displaced, _slot: Some(Slot::Anonymous(slot)) }
    }
}

impl PendingConnection {
    /// Moves the connection to the slots for what its first message asks for: an existing link with a valid ticket, or
    /// anything else.
    pub(super) fn identify(&mut self, known_link: Option<LinkId>) {
        let displaced = self.displaced.clone();
        self._slot = Some(match known_link {
            Some(link) => Slot::Link(self.admission.known_links.insert(link, self.block, displaced)),
            None => Slot::Anonymous(self.admission.new_links.insert((), self.block, displaced)),
        });
    }

    /// Has the connection, whose first message has not arrived, count for a client in `block` instead: that of the
    /// proxy behind a load balancer.
    pub(super) fn set_block(&mut self, block: AddressBlock) {
        // Freed first: the connection could displace itself.
        self._slot = None;
        self.block = block;
        let slot = self.admission.unidentified.insert((), block, self.displaced.clone());
        self._slot = Some(Slot::Anonymous(slot));
    }

    /// Returns the token that is cancelled when a newer connection has displaced this one.
    pub(super) fn displaced(&self) -> &CancellationToken {
        &self.displaced
    }
}
