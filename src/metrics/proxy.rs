//! What a proxy exposes.

use std::{convert::Infallible, fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    families::{Families, Label, by_direction, direction},
    format::Format,
    http::{Exposition, MetricsListener, Probes},
    process::ProcessFigures,
    server::{MICROS, write_build, write_memory},
};
use crate::telemetry::{MemoryUse, ProxyFigures, ServedSeries, ServedStats, Telemetry, epoch_ms};

/// The metrics of a proxy.
#[derive(Debug)]
pub struct ProxyMetrics {
    /// What the proxy counts of itself.
    telemetry: Arc<Telemetry>,
    /// What it counts of its streams, links and channels.
    stats: Arc<ServedStats>,
    /// When the process started, in milliseconds since the Unix epoch.
    started_ms: u64,
}

impl ProxyMetrics {
    /// Creates the metrics of a proxy that starts now and counts in `telemetry` and `stats`.
    pub fn new(telemetry: Arc<Telemetry>, stats: Arc<ServedStats>) -> Self {
        Self { telemetry, stats, started_ms: epoch_ms() }
    }

    /// Answers the requests of scrapers and health checks. Never completes; dropping the future ends all connections.
    pub async fn serve(self, listener: MetricsListener, probes: impl Probes) -> Infallible {
        listener.serve(Arc::new(self), probes).await
    }
}

impl Exposition for ProxyMetrics {
    fn expose(&self, format: Format, is_ready: bool) -> String {
        let (memory, process) = (self.telemetry.memory(), ProcessFigures::read(self.started_ms));
        let (figures, task_panics) = (self.stats.figures(), self.telemetry.task_panics());
        format.expose(ProxyCollector { memory, process, figures, task_panics, is_ready })
    }
}

/// The values of one scrape.
#[derive(Debug)]
struct ProxyCollector {
    /// The memory budget.
    memory: Option<MemoryUse>,
    /// What the system says about the process.
    process: ProcessFigures,
    /// What the proxy has counted.
    figures: ProxyFigures,
    /// Tasks that have panicked.
    task_panics: u64,
    /// Whether the proxy is registered.
    is_ready: bool,
}

impl Collector for ProxyCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::new(encoder);
        write_build(&mut families, "proxy", self.is_ready)?;
        self.process.write(&mut families)?;
        families.counter("underpass_task_panics", "Tasks that have panicked.")?.count(self.task_panics)?;
        write_memory(&mut families, self.memory)?;
        self.write_services(&mut families)?;
        self.write_links(&mut families)
    }
}

/// Returns the label of a service.
fn service(series: &ServedSeries) -> Label<'_> {
    ("service", &series.label)
}

impl ProxyCollector {
    /// Writes what is counted by service.
    fn write_services(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = &self.figures.services;
        families
            .gauge("underpass_proxied_streams_open", "Streams that this proxy serves now.")?
            .numbers(all.iter().map(|one| ([service(one)], one.streams_open)))?;
        families
            .counter("underpass_proxied_streams_opened", "Streams that servers have opened to this proxy.")?
            .counts(all.iter().map(|one| ([service(one)], one.streams_opened)))?;
        families
            .counter("underpass_target_connect_failures", "Streams whose target could not be connected to.")?
            .counts(all.iter().map(|one| ([service(one)], one.connect_failures)))?;
        families
            .counter(
                "underpass_target_traffic_bytes",
                "Payload of streams, open ones included: downloads were read from targets, uploads were written to them.",
            )?
            .counts(all.iter().flat_map(|one| by_direction(service(one), one.down, one.up)))?;
        families
            .histogram("underpass_target_connect_seconds", "Time that connecting to the target took.")?
            .histograms(MICROS, all.iter().map(|one| ([service(one)], &one.connect)))?;
        families
            .histogram("underpass_proxied_stream_duration_seconds", "Duration of streams that have ended.")?
            .histograms(MICROS, all.iter().map(|one| ([service(one)], &one.duration)))?;
        families
            .histogram(
                "underpass_proxied_stream_bytes",
                "Payload of each stream that has ended, by direction.",
            )?
            .histograms(
                1.0,
                all.iter().flat_map(|one| by_direction(service(one), &one.stream_down, &one.stream_up)),
            )
    }

    /// Writes what is counted of links and channels.
    fn write_links(&self, families: &mut Families<'_>) -> fmt::Result {
        let figures = &self.figures;
        families
            .counter("underpass_links_registered", "Links on which a server has registered this proxy.")?
            .count(figures.links)?;
        families
            .counter(
                "underpass_proxied_streams_refused",
                "Streams refused because the maximum was open (--max-streams).",
            )?
            .count(figures.streams_refused)?;
        families
            .gauge("underpass_link_channels", "Channels to servers that are established.")?
            .number(figures.channels as u64)?;
        if let Some(rtt) = figures.rtt {
            families
                .gauge(
                    "underpass_link_rtt_seconds",
                    "RTT of the last ping on the channel where it is smallest.",
                )?
                .values([([], rtt.as_secs_f64())])?;
        }
        families.counter("underpass_link_bytes", "Bytes on all channels, framing included.")?.counts([
            ([direction("received")], figures.carried.received),
            ([direction("sent")], figures.carried.sent),
        ])?;
        families
            .counter(
                "underpass_link_retransmitted_segments",
                "TCP segments that the kernel has retransmitted to servers.",
            )?
            .count(figures.carried.retransmitted_segments)
    }
}
