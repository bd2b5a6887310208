//! The header of a recorded file.

use serde::{Deserialize, Serialize};

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The version of the program that wrote the file.
    pub underpass: String,
    /// The version of the format. Readers refuse higher ones.
    pub recording: u32,
    /// A random number of the server's process, by which a reader sees that the server was restarted.
    pub boot: String,
    /// The address of the tunnel port.
    pub listen: String,
}

impl FileHeader {
    /// The version of the format that this version writes, and the highest that it reads.
    pub const VERSION: u32 = 1;
}
