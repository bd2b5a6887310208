//! Why lines cannot be decoded.

/// Why the state cannot be rebuilt any more. The consumer has to ask for a new snapshot.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Changes came before a snapshot.
    #[error("changes without a snapshot before them")]
    NoSnapshot,
    /// A line is missing.
    #[error("line {expected} is missing: line {got} came instead")]
    Gap {
        /// The number that the next line should have.
        expected: u64,
        /// The number that it has.
        got: u64,
    },
    /// Changes name a row that the state does not have, or their columns have different lengths.
    #[error("changes do not fit the state before them")]
    UnknownRow,
    /// A patch does not fit its row.
    #[error("a change does not fit its row: {0}")]
    Patch(serde_json::Error),
}
