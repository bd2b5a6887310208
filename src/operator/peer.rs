//! Who is at the other end of a control socket, and what that process may do.

use std::io;

use nix::unistd::{Group, Uid};
use tokio::net::UnixStream;

use super::peer_groups;
use crate::ids::Operator;

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Requests that change nothing.
    Read,
    /// All requests.
    Operate,
}

/// A group of users, by the name or number that the operator gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlGroup {
    /// The name or number, for messages.
    pub name: String,
    /// The group id.
    pub gid: u32,
}

impl ControlGroup {
    /// Looks up a group by its name or number.
    ///
    /// # Errors
    /// A message for the operator: there is no such group, or the database of groups cannot be read.
    pub fn find(name: &str) -> Result<Self, String> {
        if let Ok(gid) = name.parse() {
            return Ok(Self { name: name.to_owned(), gid });
        }
        match Group::from_name(name) {
            Ok(Some(group)) => Ok(Self { name: name.to_owned(), gid: group.gid.as_raw() }),
            Ok(None) => Err(format!(
                "there is no group «{name}» on this machine: `groupadd {name}` creates it, `getent group` lists all"
            )),
            Err(error) => Err(format!("cannot look up the group «{name}»: {error}")),
        }
    }
}

/// Who may use the control socket beside the user of this process and root.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    /// The group whose members may do everything.
    pub operators: Option<ControlGroup>,
    /// The group whose members may read.
    pub readers: Option<ControlGroup>,
}

/// The process at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its effective user id when it connected.
    pub(super) uid: u32,
    /// Its process id; `None` where the system does not report it.
    pub(super) pid: Option<u32>,
    /// Its groups, the primary one first.
    groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel who is at the other end of `socket`: what the peer says of itself proves nothing.
    ///
    /// # Errors
    /// An I/O error of getsockopt(2).
    pub(super) fn of(socket: &UnixStream) -> io::Result<Self> {
        let credentials = socket.peer_cred()?;
        let mut groups = vec![credentials.gid()];
        // A container runtime may forbid the option; the primary group is known all the same.
        groups.extend(peer_groups::of(socket).unwrap_or_default());
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        Ok(Self { uid: credentials.uid(), pid, groups })
    }

    /// Returns whether the peer has the user id of this process, or is root.
    pub(super) fn is_owner(&self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    /// Returns what the peer may do; `None` if nothing.
    pub(super) fn access(&self, rules: &AccessRules) -> Option<Access> {
        let is_member = |group: &Option<ControlGroup>| {
            group.as_ref().is_some_and(|group| self.groups.contains(&group.gid))
        };
        if self.is_owner() || is_member(&rules.operators) {
            Some(Access::Operate)
        } else if is_member(&rules.readers) {
            Some(Access::Read)
        } else {
            None
        }
    }

    /// Returns how the audit trail names the peer.
    pub(super) fn operator(&self) -> Operator {
        Operator::Peer { uid: self.uid, pid: self.pid }
    }
}

#[cfg(test)]
mod tests;
