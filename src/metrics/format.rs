//! The two text formats of an exposition: OpenMetrics 1.0, and the older one of Prometheus.

use prometheus_client::{
    collector::Collector,
    encoding::{prometheus_text, text},
    registry::Registry,
};

#[cfg(test)]
mod tests;

/// The text format of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The text format of Prometheus 0.0.4, for everything else: curl, promtool, older scrapers.
    Text,
}

impl Format {
    /// Returns the format for a request whose header field `Accept` has this value.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the value of the header field `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns the exposition of what `collector` reads now.
    pub(super) fn expose(self, collector: impl Collector) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collector));
        let mut exposition = String::new();
        // Writing to a string does not fail.
        _ = match self {
            Self::OpenMetrics => text::encode(&mut exposition, &registry),
            Self::Text => prometheus_text::encode(&mut exposition, &registry),
        };
        exposition
    }
}
