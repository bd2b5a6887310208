//! How far a transfer had come when its stream ended before it did.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Direction, format_bytes};

/// A transfer that its stream cut short: an HTTP body whose framing says that more was to come, or a download whose
/// size the proxy had announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Whether the download or the upload is incomplete.
    pub direction: Direction,
    /// The bytes of the transfer that have passed, counted at the user's socket.
    pub transferred: u64,
    /// The size of the transfer in bytes; `None` for a body in the chunked coding, whose last chunk is missing.
    pub size: Option<u64>,
    /// Whether the user closed its connection (FIN) within the transfer, before the target had closed its own.
    pub is_user_closed: bool,
}

/// What inspection knows about the transfer within which a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    /// The last message was complete.
    Complete,
    /// A message was cut short.
    Short(Shortfall),
}

impl Shortfall {
    /// Returns the amounts in at most 14 characters, for a table column: `161M of 200M`.
    pub fn short(&self) -> String {
        let arrow = if self.direction == Direction::Up { "↑" } else { "" };
        match self.nearly_all() {
            Some(missing) => format!("{missing} missing"),
            None => {
                let size = self.size.map_or_else(|| "?".to_owned(), format_bytes);
                format!("{arrow}{} of {size}", format_bytes(self.transferred))
            }
        }
    }

    /// Returns the missing bytes as text if so few are missing that both amounts would read the same.
    fn nearly_all(&self) -> Option<String> {
        let size = self.size?;
        let missing = format_bytes(size.saturating_sub(self.transferred));
        (format_bytes(size) == format_bytes(self.transferred)).then_some(missing)
    }
}

/// Prints `161M of 200M`, `161M of unknown size` or, where both amounts would read the same, `all but 12 bytes of
/// 200M`.
impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.map_or_else(|| "unknown size".to_owned(), format_bytes);
        match self.nearly_all() {
            Some(missing) => write!(f, "all but {missing} bytes of {size}")?,
            None => write!(f, "{} of {size}", format_bytes(self.transferred))?,
        }
        if self.direction == Direction::Up { f.write_str(" of the upload") } else { Ok(()) }
    }
}
