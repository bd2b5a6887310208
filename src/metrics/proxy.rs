//! What a proxy exposes.

use std::{convert::Infallible, fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    families::Families,
    format::Format,
    http::{Exposition, MetricsListener, Probes},
    process::ProcessFigures,
    server::{write_build, write_memory},
};
use crate::telemetry::{MemoryUse, Telemetry, epoch_ms};

/// The metrics of a proxy.
#[derive(Debug)]
pub struct ProxyMetrics {
    /// What the proxy counts.
    telemetry: Arc<Telemetry>,
    /// When the process started, in milliseconds since the Unix epoch.
    started_ms: u64,
}

impl ProxyMetrics {
    /// Creates the metrics of a proxy that starts now and counts in `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, started_ms: epoch_ms() }
    }

    /// Answers the requests of scrapers and health checks. Never completes; dropping the future ends all connections.
    pub async fn serve(self, listener: MetricsListener, probes: impl Probes) -> Infallible {
        listener.serve(Arc::new(self), probes).await
    }
}

impl Exposition for ProxyMetrics {
    fn expose(&self, format: Format, is_ready: bool) -> String {
        let (memory, process) = (self.telemetry.memory(), ProcessFigures::read(self.started_ms));
        format.expose(ProxyCollector { memory, process, is_ready })
    }
}

/// The values of one scrape.
#[derive(Debug)]
struct ProxyCollector {
    /// The memory budget.
    memory: Option<MemoryUse>,
    /// What the system says about the process.
    process: ProcessFigures,
    /// Whether the proxy is registered.
    is_ready: bool,
}

impl Collector for ProxyCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::new(encoder);
        write_build(&mut families, "proxy", self.is_ready)?;
        self.process.write(&mut families)?;
        write_memory(&mut families, self.memory)
    }
}
