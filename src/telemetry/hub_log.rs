//! How lifecycle events are logged: as a text, or as a text with structured fields.

use tracing::Level;

use super::{EventKind, LIFECYCLE_TARGET, LogLevel};

/// Logs an event with the target `lifecycle`; `with_fields` adds the kind of the event and, to the end of a stream,
/// what is known about it but its content.
pub(super) fn log(kind: &EventKind, with_fields: bool) {
    // The level of a call has to be a constant.
    macro_rules! log_at {
        ($level:expr) => {
            match kind {
                _ if !with_fields => tracing::event!(target: LIFECYCLE_TARGET, $level, "{}", log_text(kind)),
                EventKind::StreamEnded {
                    key,
                    reason,
                    shortfall,
                    down,
                    up,
                    addr,
                    service,
                    proxy,
                    proxy_name,
                    lasted,
                    time_to_first_byte,
                    content: _,
                } => tracing::event!(
                    target: LIFECYCLE_TARGET,
                    $level,
                    event = kind.name(),
                    stream = display(key),
                    user = display(addr),
                    service = display(service),
                    proxy = proxy.map(display),
                    proxy_name = proxy_name.as_deref(),
                    down_bytes = down,
                    up_bytes = up,
                    duration_seconds = lasted.as_secs_f64(),
                    time_to_first_byte_seconds = time_to_first_byte.map(|time| time.as_secs_f64()),
                    ended_by = display(reason.by()),
                    reason = reason.describe(shortfall.as_ref()),
                    "{}",
                    log_text(kind)
                ),
                kind => {
                    tracing::event!(target: LIFECYCLE_TARGET, $level, event = kind.name(), "{}", log_text(kind));
                }
            }
        };
    }
    match kind.log_level() {
        LogLevel::Warn => log_at!(Level::WARN),
        LogLevel::Debug => log_at!(Level::DEBUG),
        _ => log_at!(Level::INFO),
    }
}

/// Returns the text of an event for the log, in one piece: `tracing` passes each piece through several writers, which
/// took twice as long as making the text.
fn log_text(kind: &EventKind) -> String {
    kind.to_string()
}
