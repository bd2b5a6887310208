//! The ids of users that have left.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use crate::ids::UserChannelId;

#[cfg(test)]
mod tests;

/// The port of a service and the address of a client: what makes a user.
pub(super) type UserAddr = (u16, IpAddr);

/// How many users that have left keep their ids: more than the history of a cockpit names, and about 10 MB.
const MAX_DEPARTED: usize = 1 << 16;

/// What is kept of a user after it has left: its id names it in histories and logs, and stream keys that its earlier
/// streams had must not name others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DepartedUser {
    /// The id of the user.
    pub(super) id: UserChannelId,
    /// The number of its last stream.
    pub(super) last_stream: u32,
}

/// The last [`MAX_DEPARTED`] users that have left and not returned.
#[derive(Debug, Default)]
pub(super) struct DepartedUsers {
    /// The users by address, each with the number of its departure.
    by_addr: HashMap<UserAddr, (u64, DepartedUser)>,
    /// Their addresses by the number of the departure: the first one is forgotten first.
    by_departure: BTreeMap<u64, UserAddr>,
    /// The number of the last departure.
    last_departure: u64,
}

impl DepartedUsers {
    /// Adds a user that has left. Returns the user that is forgotten for it, whose id is free again.
    pub(super) fn add(&mut self, addr: UserAddr, user: DepartedUser) -> Option<DepartedUser> {
        self.last_departure += 1;
        self.by_addr.insert(addr, (self.last_departure, user));
        self.by_departure.insert(self.last_departure, addr);
        if self.by_departure.len() <= MAX_DEPARTED {
            return None;
        }
        let (_, oldest) = self.by_departure.pop_first()?;
        self.by_addr.remove(&oldest).map(|(_, user)| user)
    }

    /// Removes and returns the user of this address, which has returned.
    pub(super) fn take(&mut self, addr: &UserAddr) -> Option<DepartedUser> {
        let (departure, user) = self.by_addr.remove(addr)?;
        self.by_departure.remove(&departure);
        Some(user)
    }
}
