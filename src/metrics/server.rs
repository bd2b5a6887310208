//! What a server exposes.

use std::{convert::Infallible, fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    families::{Families, Label, by_direction, direction},
    format::Format,
    http::{Exposition, MetricsListener, Probes},
    process::ProcessFigures,
};
use crate::telemetry::{
    HistogramCounts, MemoryUse, ProxySeries, ServerSeries, ServiceSeries, Telemetry, epoch_ms,
};

/// Microseconds in a second: latencies are counted in microseconds and exposed in seconds.
pub(super) const MICROS: f64 = 1e6;

/// A family of gauges: name, help and the value of each series.
type GaugeOf<T> = (&'static str, &'static str, fn(&T) -> u64);

/// A family of histograms: name, help and the counts of each series.
type HistogramOf<T> = (&'static str, &'static str, fn(&T) -> &HistogramCounts);

/// The metrics of a server.
#[derive(Debug)]
pub struct ServerMetrics {
    /// What the server counts.
    telemetry: Arc<Telemetry>,
    /// When the process started, in milliseconds since the Unix epoch.
    started_ms: u64,
}

impl ServerMetrics {
    /// Creates the metrics of a server that starts now and counts in `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, started_ms: epoch_ms() }
    }

    /// Answers the requests of scrapers and health checks. Never completes; dropping the future ends all connections.
    pub async fn serve(self, listener: MetricsListener, probes: impl Probes) -> Infallible {
        listener.serve(Arc::new(self), probes).await
    }
}

impl Exposition for ServerMetrics {
    fn expose(&self, format: Format, is_ready: bool) -> String {
        let (series, process) = (self.telemetry.series(), ProcessFigures::read(self.started_ms));
        format.expose(ServerCollector { series, process, is_ready })
    }
}

/// The values of one scrape.
#[derive(Debug)]
struct ServerCollector {
    /// What the server has counted.
    series: ServerSeries,
    /// What the system says about the process.
    process: ProcessFigures,
    /// Whether the server serves new users.
    is_ready: bool,
}

impl Collector for ServerCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::new(encoder);
        write_build(&mut families, "server", self.is_ready)?;
        self.process.write(&mut families)?;
        self.write_totals(&mut families)?;
        self.write_services(&mut families)?;
        self.write_histograms(&mut families)?;
        self.write_proxies(&mut families)?;
        self.write_channels(&mut families)
    }
}

/// Writes what is known before anything is counted.
pub(super) fn write_build(families: &mut Families<'_>, role: &str, is_ready: bool) -> fmt::Result {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("role", role)];
    families
        .gauge("underpass_build_info", "Version and role of this process; always 1.")?
        .numbers([(labels, 1)])?;
    families.gauge("underpass_ready", "Whether /readyz answers with 200: 1 or 0.")?.number(is_ready.into())
}

/// Writes the use of the memory budget, if there is one.
pub(super) fn write_memory(families: &mut Families<'_>, memory: Option<MemoryUse>) -> fmt::Result {
    let Some(MemoryUse { budget, used }) = memory else { return Ok(()) };
    families
        .gauge("underpass_memory_budget_bytes", "Memory budget of all streams (--memory).")?
        .number(budget)?;
    families
        .gauge("underpass_memory_used_bytes", "Bytes of the memory budget that are promised or in use.")?
        .number(used)
}

/// Returns the label of a service.
fn service(series: &ServiceSeries) -> Label<'_> {
    ("service", &series.label)
}

/// Returns the label of a proxy.
fn proxy(series: &ProxySeries) -> Label<'_> {
    ("proxy", &series.label)
}

impl ServerCollector {
    /// Writes what is counted for the server as a whole.
    fn write_totals(&self, families: &mut Families<'_>) -> fmt::Result {
        let totals = &self.series.totals;
        families
            .gauge(
                "underpass_users",
                "Client addresses by service that are connected, or were a few seconds ago.",
            )?
            .number(totals.users_current)?;
        for (name, help, value) in [
            (
                "underpass_user_connections_refused",
                "User connections that were closed unserved: a limit refused them, or no proxy was available in time; the \
                 latter are failed streams, too.",
                totals.users_rejected,
            ),
            (
                "underpass_streams_empty",
                "Streams that ended as wanted before a byte had passed: health checks and port scans.",
                totals.streams_empty,
            ),
            (
                "underpass_handshakes_failed",
                "Connections to the tunnel port whose handshake failed, also those that were closed before they sent anything \
                 (health checks, port scans); without those from blocked addresses.",
                totals.handshakes_failed,
            ),
            (
                "underpass_addresses_blocked",
                "Blocks of an address because of wrong tokens.",
                totals.addresses_blocked,
            ),
            ("underpass_accept_failures", "Failures of accept(2) on any port.", self.series.accept_failures),
            ("underpass_task_panics", "Tasks that have panicked.", self.series.task_panics),
        ] {
            families.counter(name, help)?.count(value)?;
        }
        let ends: Vec<_> = self.series.ends.iter().map(|end| (end, end.by.to_string())).collect();
        families
            .counter(
                "underpass_stream_ends",
                "Streams that have ended, by the reason and by who ended them.",
            )?
            .counts(
                ends.iter().map(|(end, by)| ([("reason", &end.reason[..]), ("ended_by", by)], end.count)),
            )?;
        write_memory(families, self.series.memory)
    }

    /// Writes the counters and gauges of services.
    fn write_services(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = &self.series.services;
        families
            .gauge("underpass_service_open", "Services with this label whose public port is open.")?
            .numbers(all.iter().map(|one| ([service(one)], one.open as u64)))?;
        families
            .gauge("underpass_streams_open", "Streams that are open now.")?
            .numbers(all.iter().map(|one| ([service(one)], one.streams_open)))?;
        families
            .counter("underpass_streams_opened", "Streams that were opened for user connections.")?
            .counts(all.iter().map(|one| ([service(one)], one.streams_opened)))?;
        families
            .counter(
                "underpass_streams_failed",
                "Streams that ended otherwise than their user, their target or the operator wanted.",
            )?
            .counts(all.iter().map(|one| ([service(one)], one.streams_failed)))?;
        families
            .counter(
                "underpass_traffic_bytes",
                "Payload of streams, open ones included: downloads were written to users, uploads were read from them.",
            )?
            .counts(all.iter().flat_map(|one| by_direction(service(one), one.down, one.up)))
    }

    /// Writes the histograms of services.
    fn write_histograms(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = &self.series.services;
        let durations: [HistogramOf<ServiceSeries>; 4] = [
            (
                "underpass_connect_latency_seconds",
                "Time from assigning a stream to a proxy until the proxy reported the connection to the target.",
                |one| &one.connect,
            ),
            (
                "underpass_time_to_first_byte_seconds",
                "Time from the user's first byte until the target's first byte was written to the user.",
                |one| &one.time_to_first_byte,
            ),
            (
                "underpass_queue_wait_seconds",
                "Time that upload data waited in the server for a channel, sampled.",
                |one| &one.queue_wait,
            ),
            ("underpass_stream_duration_seconds", "Duration of streams that have ended.", |one| {
                &one.duration
            }),
        ];
        for (name, help, of) in durations {
            families
                .histogram(name, help)?
                .histograms(MICROS, all.iter().map(|one| ([service(one)], of(one))))?;
        }
        families
            .histogram("underpass_stream_bytes", "Payload of each stream that has ended, by direction.")?
            .histograms(
                1.0,
                all.iter().flat_map(|one| by_direction(service(one), &one.stream_down, &one.stream_up)),
            )
    }

    /// Writes the counters and gauges of proxies.
    fn write_proxies(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = &self.series.proxies;
        let gauges: [GaugeOf<ProxySeries>; 3] = [
            (
                "underpass_proxy_connected",
                "Proxies with this name that are connected, or within their grace period; 0 for one that has left.",
                |one| one.connected as u64,
            ),
            ("underpass_proxy_draining", "Proxies with this name that the operator drains.", |one| {
                one.draining as u64
            }),
            ("underpass_proxy_streams_open", "Streams that are assigned to the proxy now.", |one| {
                one.streams_open
            }),
        ];
        for (name, help, of) in gauges {
            families.gauge(name, help)?.numbers(all.iter().map(|one| ([proxy(one)], of(one))))?;
        }
        families
            .counter("underpass_proxy_links", "Links that proxies with this name have established.")?
            .counts(all.iter().map(|one| ([proxy(one)], one.links)))?;
        families
            .counter(
                "underpass_proxy_streams_assigned",
                "Streams that were assigned to the proxy, those that another one served after all included.",
            )?
            .counts(all.iter().map(|one| ([proxy(one)], one.streams_assigned)))?;
        families
            .counter("underpass_proxy_traffic_bytes", "Payload of the proxy's streams, open ones included.")?
            .counts(all.iter().flat_map(|one| by_direction(proxy(one), one.down, one.up)))
    }

    /// Writes the counters and gauges of the channels of each proxy.
    fn write_channels(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = &self.series.proxies;
        let gauges: [GaugeOf<ProxySeries>; 3] = [
            ("underpass_channels", "Channels of the proxy that are established.", |one| one.channels as u64),
            (
                "underpass_channels_stalled",
                "Channels of the proxy that have accepted no data, or answered no ping, for 3 s.",
                |one| one.stalled_channels as u64,
            ),
            (
                "underpass_channel_queue_bytes",
                "Bytes that wait in the server for the channels of the proxy.",
                |one| one.send_queue_bytes,
            ),
        ];
        for (name, help, of) in gauges {
            families.gauge(name, help)?.numbers(all.iter().map(|one| ([proxy(one)], of(one))))?;
        }
        families
            .gauge(
                "underpass_channel_rtt_seconds",
                "RTT of the last ping on the channel of the proxy where it is smallest.",
            )?
            .values(all.iter().filter_map(|one| Some(([proxy(one)], one.rtt?.as_secs_f64()))))?;
        families
            .counter("underpass_channel_bytes", "Bytes on the channels of the proxy, framing included.")?
            .counts(all.iter().flat_map(|one| {
                let of = |name, bytes| ([proxy(one), direction(name)], bytes);
                [of("received", one.received), of("sent", one.sent)]
            }))?;
        families
            .counter(
                "underpass_channel_retransmitted_segments",
                "TCP segments that the kernel has retransmitted to the proxy.",
            )?
            .counts(all.iter().map(|one| ([proxy(one)], one.retransmitted_segments)))
    }
}
