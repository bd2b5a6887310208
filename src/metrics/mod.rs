//! Metrics for Prometheus, and answers to health checks, over HTTP.
//!
//! `GET /metrics` is answered with what [`telemetry`](crate::telemetry) has counted anyway; nothing is counted for it
//! on the data path. `GET /healthz` says whether the process works, `GET /readyz` whether it serves.
//!
//! The crate prometheus-client encodes the values, from a collector that reads them when a scrape asks for them. The
//! crate metrics-exporter-prometheus would need a second counter beside each one that telemetry has, in a global
//! recorder, and keep the series of services and proxies that are gone. There is no HTTP library: three paths, one
//! request on each connection and no body need httparse, which is a dependency anyway, and a hundred lines. hyper with
//! hyper-util and http-body-util would be seven more crates.

mod families;
mod format;
mod http;
mod process;
mod proxy;
mod server;

pub use http::{MetricsBindError, MetricsListener, Probes};
pub use proxy::ProxyMetrics;
pub use server::ServerMetrics;
