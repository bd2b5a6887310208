//! The request for the rows of a list.

use std::time::Duration;

use super::Failure;
use crate::{cli::args::operate::RowListArgs, operator::PsQuery};

/// Returns the error for a sort key that this list does not have.
pub(super) fn usage_of_sort(error: String) -> Failure {
    Failure::Usage(format!("--sort: {error}"))
}

/// Returns the request for rows as they are wanted. Rates are measured over this time.
pub(super) fn query(list: &RowListArgs, over: Duration) -> PsQuery {
    PsQuery {
        filter: list.filter.clone(),
        sort: list.sort.clone(),
        reverse: list.reverse,
        max: list.max,
        over_ms: Some(u64::try_from(over.as_millis()).unwrap_or(u64::MAX)),
    }
}
