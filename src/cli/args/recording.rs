//! The arguments about recordings: of a server that records, and of `underpass replay`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    shared::LookArgs,
    values::{number, recording_size, speed},
};
use crate::recording::RecorderOptions;

/// The recording of a server.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArgs {
    /// Record all events and, once a second, the state of the server in files in this directory, for `underpass
    /// replay`. They name users and what they request, and are readable by their owner only
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Maximum size of all recordings in the directory together; the oldest ones are deleted
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = recording_size)]
    record_size: u64,
    /// Days after which recordings are deleted
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = number(1..=3650))]
    record_days: u32,
}

impl RecordArgs {
    /// Returns where and how much is recorded; `None` if nothing is.
    pub(in crate::cli) fn options(&self) -> Option<RecorderOptions> {
        Some(RecorderOptions {
            dir: self.record.clone()?,
            max_bytes: self.record_size,
            max_age: Duration::from_secs(u64::from(self.record_days) * 86_400),
        })
    }
}

/// The arguments of `underpass replay`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    /// Recordings, or directories with recordings (*.upr)
    #[arg(value_name = "FILE|DIR", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// How many times as fast as recorded it is played, 0.1 to 1000
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub(in crate::cli) speed: f64,
    /// How the cockpit looks
    #[command(flatten)]
    pub(in crate::cli) screen: LookArgs,
}
