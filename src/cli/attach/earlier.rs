//! What was refused or failed before the cockpit was attached, as records of its log.

use crate::{
    telemetry::{LIFECYCLE_TARGET, LogLevel, LogRecord, RecentFailures},
    tui::format,
};

/// By how many milliseconds the times of an event and of its log record may differ: both are taken one after the other.
const MAX_SKEW_MS: u64 = 1000;

/// Turns what a server has kept into records, each of which the log gets once: also where the connection was lost
/// meanwhile, and where one is both kept and logged as it happens.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The time of the newest record of an event, by the clock of the server; 0 before the first one.
    newest_ms: u64,
    /// The records that the log has got, as long as the same may follow as they are logged.
    given: Vec<LogRecord>,
}

impl Earlier {
    /// Forgets the process: what follows is of another one.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Returns the records that the log does not have yet. Those of another day than `now_ms` have their date.
    pub(super) fn take(&mut self, recent: RecentFailures, now_ms: u64) -> Vec<LogRecord> {
        let RecentFailures { events, dropped } = recent;
        let is_first = self.newest_ms == 0;
        let new = events.into_iter().filter(|event| event.epoch_ms > self.newest_ms);
        let records: Vec<LogRecord> = new
            .map(|event| LogRecord {
                epoch_ms: event.epoch_ms,
                level: event.kind.log_level(),
                target: LIFECYCLE_TARGET.into(),
                text: event.kind.to_string(),
            })
            .collect();
        let Some(newest_ms) = records.iter().map(|record| record.epoch_ms).max() else { return Vec::new() };
        self.newest_ms = newest_ms;
        self.given.clone_from(&records);
        let dated = records.into_iter().map(|record| match format::date(record.epoch_ms) {
            date if date != format::date(now_ms) => {
                LogRecord { text: format!("{date} {}", record.text), ..record }
            }
            _ => record,
        });
        let mut records: Vec<LogRecord> = dated.collect();
        if is_first && dropped > 0 {
            let text = format!(
                "{dropped} older refusals and failures are not kept; the log of the other process has them"
            );
            let (epoch_ms, level) = (records[0].epoch_ms, LogLevel::Info);
            records.insert(0, LogRecord { epoch_ms, level, target: "underpass::attach".into(), text });
        }
        records
    }

    /// Returns whether the log has this record already.
    pub(super) fn has(&mut self, record: &LogRecord) -> bool {
        if record.target != LIFECYCLE_TARGET {
            return false;
        }
        self.newest_ms = self.newest_ms.max(record.epoch_ms);
        let is_it = |given: &LogRecord| {
            given.text == record.text && given.epoch_ms.abs_diff(record.epoch_ms) <= MAX_SKEW_MS
        };
        if let Some(at) = self.given.iter().position(is_it) {
            self.given.swap_remove(at);
            return true;
        }
        if self.given.iter().all(|given| given.epoch_ms + MAX_SKEW_MS < record.epoch_ms) {
            self.given = Vec::new();
        }
        false
    }
}

#[cfg(test)]
mod tests;
