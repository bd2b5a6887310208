//! The format of log lines on stderr.

use std::fmt;

use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    registry::LookupSpan,
};

/// The format of log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line for people: time, level, target and message
    Text,
    /// One JSON object a line, with the fields timestamp (RFC 3339), level, target and message; the end of a stream has
    /// one for each thing that is known about it
    Json,
    /// For stderr in the journal of systemd: a priority (<6>) instead of time and level
    Journal,
}

impl LogFormat {
    /// Returns the layer that writes records in this format; the text has colours if `has_colours`.
    ///
    /// The journal gets priorities as sd-daemon(3) describes them. The crate tracing-journald sends each record from
    /// the thread that logs it, and waits while the journal is busy: the tunnel must not.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
        self,
        writer: NonBlocking,
        has_colours: bool,
    ) -> Box<dyn Layer<S> + Send + Sync> {
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        match self {
            Self::Text => layer.with_ansi(has_colours).boxed(),
            Self::Json => {
                layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
            }
            Self::Journal => layer.with_ansi(false).event_format(JournalFormat).boxed(),
        }
    }
}

/// Writes a record as the journal expects it: each line begins with its priority, of which the journal makes a field.
struct JournalFormat;

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut text = format!("{}: ", metadata.target());
        DefaultFields::new().format_fields(Writer::new(&mut text), event)?;
        let priority = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        // The journal makes a record of each line, and one without a priority would lose its level.
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}
