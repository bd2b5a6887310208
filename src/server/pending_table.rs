//! A bounded table of unauthenticated connections that always admits one more, at the expense of the peer that has
//! most.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::ids::AddressBlock;

#[cfg(test)]
mod tests;

/// A bounded table of unauthenticated connections. Each belongs to an owner `O`, a link for example, and to the block
/// of its client's address.
///
/// When the table is full, a new connection displaces another: of the owner with the most connections, of that owner's
/// block with the most, one at random. Refusing the new connection instead would let a peer that has filled the table
/// keep others out. Random, and not the oldest, because a flood from more blocks than the table has slots would
/// displace each connection just before it is complete: at a rate `r` a fraction `exp(-r·t/capacity)` lasts for the
/// time `t` that it needs, and the others try again.
#[derive(Debug)]
pub(super) struct PendingTable<O> {
    /// How many connections the table holds at most.
    capacity: usize,
    /// The serial number of the next connection: tells connections of the same block apart.
    next_serial: AtomicU64,
    /// The connections.
    connections: Mutex<Connections<O>>,
}

/// The connections of a [`PendingTable`], by owner and block. No owner and no block is empty.
#[derive(Debug)]
struct Connections<O> {
    /// The number of connections.
    total: usize,
    /// The connections by owner.
    by_owner: HashMap<O, OwnedConnections>,
}

/// The connections of one owner.
#[derive(Debug, Default)]
struct OwnedConnections {
    /// Their number.
    total: usize,
    /// The serial numbers of the connections, and the tokens that are cancelled when they are displaced.
    by_block: HashMap<AddressBlock, Vec<(u64, CancellationToken)>>,
}

/// One connection in a [`PendingTable`]. Dropping it frees the slot, if the connection was not displaced.
#[derive(Debug)]
pub(super) struct PendingSlot<O: Eq + Hash + Copy> {
    /// The table that contains the connection.
    table: Arc<PendingTable<O>>,
    /// The owner of the connection.
    owner: O,
    /// The block of the client's address.
    block: AddressBlock,
    /// The number of the connection in the table.
    serial: u64,
}

impl<O: Eq + Hash + Copy> PendingTable<O> {
    /// Creates an empty table for `capacity` connections, at least one.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.max(1),
            next_serial: AtomicU64::new(0),
            connections: Mutex::new(Connections { total: 0, by_owner: HashMap::new() }),
        })
    }

    /// Adds a connection, and displaces another if the table is full. `displaced` is cancelled when this one is.
    pub(super) fn insert(
        self: &Arc<Self>,
        owner: O,
        block: AddressBlock,
        displaced: CancellationToken,
    ) -> PendingSlot<O> {
        let serial = self.next_serial.fetch_add(1, Relaxed);
        let victim = {
            let mut connections = self.connections.lock();
            let victim =
                if connections.total >= self.capacity { connections.displace(owner, block) } else { None };
            connections.insert(owner, block, (serial, displaced));
            victim
        };
        // Wakes a task, which must not happen under the lock.
        victim.inspect(CancellationToken::cancel);
        PendingSlot { table: self.clone(), owner, block, serial }
    }
}

impl<O: Eq + Hash + Copy> Connections<O> {
    /// Adds a connection.
    fn insert(&mut self, owner: O, block: AddressBlock, connection: (u64, CancellationToken)) {
        self.total += 1;
        let owned = self.by_owner.entry(owner).or_default();
        owned.total += 1;
        owned.by_block.entry(block).or_default().push(connection);
    }

    /// Removes a connection to admit one of `owner` and `block`, which counts as admitted already: otherwise a client
    /// could displace one that has as few connections as itself. Returns the token of the removed connection.
    fn displace(&mut self, owner: O, block: AddressBlock) -> Option<CancellationToken> {
        let victim = largest(&self.by_owner, |&known, owned| owned.total + usize::from(known == owner))?;
        let blocks = &self.by_owner.get(&victim)?.by_block;
        let is_same_owner = victim == owner;
        let of_block = largest(blocks, |&known, connections| {
            connections.len() + usize::from(is_same_owner && known == block)
        })?;
        let index = rand::random_range(0..blocks.get(&of_block)?.len());
        self.remove(victim, of_block, |connections| Some(connections.swap_remove(index).1))
    }

    /// Removes the connection that `take` takes out of the list of its block, and returns its token.
    fn remove(
        &mut self,
        owner: O,
        block: AddressBlock,
        take: impl FnOnce(&mut Vec<(u64, CancellationToken)>) -> Option<CancellationToken>,
    ) -> Option<CancellationToken> {
        let owned = self.by_owner.get_mut(&owner)?;
        let connections = owned.by_block.get_mut(&block)?;
        let token = take(connections)?;
        if connections.is_empty() {
            owned.by_block.remove(&block);
        }
        owned.total -= 1;
        if owned.total == 0 {
            self.by_owner.remove(&owner);
        }
        self.total -= 1;
        Some(token)
    }
}

/// Returns the key of the entry with the largest size, of several one at random.
fn largest<K: Copy, V>(entries: &HashMap<K, V>, size: impl Fn(&K, &V) -> usize) -> Option<K> {
    let (mut found, mut largest, mut candidates) = (None, 0, 0_u32);
    for (key, value) in entries {
        let size = size(key, value);
        if size > largest {
            (found, largest, candidates) = (Some(*key), size, 1);
        } else if size == largest {
            candidates += 1;
            if rand::random_ratio(1, candidates) {
                found = Some(*key);
            }
        }
    }
    found
}

impl<O: Eq + Hash + Copy> Drop for PendingSlot<O> {
    fn drop(&mut self) {
        let mut connections = self.table.connections.lock();
        connections.remove(self.owner, self.block, |list| {
            let index = list.iter().position(|(serial, _)| *serial == self.serial)?;
            Some(list.swap_remove(index).1)
        });
    }
}
