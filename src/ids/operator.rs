//! Who gives a command.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who gives a command: the audit trail in log and events names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The operator at the terminal of the server's own cockpit.
    Cockpit,
    /// A process that is connected to the control socket, as the kernel reports it (`SO_PEERCRED`).
    Peer {
        /// The effective user id of the process when it connected.
        uid: u32,
        /// Its process id; `None` where the system does not report it.
        pid: Option<u32>,
    },
}

/// Prints `by=cockpit` or `uid=1000 pid=4242`, for the end of a log line.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cockpit => f.write_str("by=cockpit"),
            Self::Peer { uid, pid: Some(pid) } => write!(f, "uid={uid} pid={pid}"),
            Self::Peer { uid, pid: None } => write!(f, "uid={uid}"),
        }
    }
}
