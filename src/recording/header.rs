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
    /// The version of the format that this version writes, and the highest that it reads: 1 has lines, 2 has batches, 3
    /// has batches whose columns lack more of what can be expected, and rounded times. A variant that is added to a
    /// type which stands in columns (contents, reasons, phases) needs a higher one.
    pub const VERSION: u32 = 3;
}
