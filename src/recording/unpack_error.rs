//! The error of a batch that contradicts itself.

/// A batch does not fit what came before in its segment, or its columns have different lengths. The reader goes on with
/// the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch is damaged")]
pub(super) struct Damaged;
