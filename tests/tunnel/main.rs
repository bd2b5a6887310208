//! The tunnel end to end: a server, its proxies, targets and users over real sockets on loopback. One module per
//! guarantee; `cargo test --test tunnel failover::` runs one of them.
//!
//! The modules run beside each other, so that a test here must not depend on being alone in its process: no global
//! allocator, tracing subscriber or environment variable, and no count of descriptors or threads. A test that measures
//! the process, or that needs the machine for itself, belongs into a binary of its own or into `tests/performance`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod accounting;
mod balancing;
mod channels_auto;
#[cfg(target_os = "linux")]
mod completion;
mod configuration;
mod connecting;
#[cfg(target_os = "linux")]
mod control_history;
#[cfg(target_os = "linux")]
mod control_instances;
#[cfg(target_os = "linux")]
mod control_protocol;
#[cfg(target_os = "linux")]
mod control_proxy;
#[cfg(target_os = "linux")]
mod control_socket;
#[cfg(target_os = "linux")]
mod control_watch;
mod emulated_link;
mod endings;
mod example_proxies;
mod example_proxy_wire;
mod failover;
mod failures;
mod fairness;
mod idle;
#[cfg(target_os = "linux")]
mod input_errors;
mod link_replacement;
mod log;
mod log_formats;
mod long_paths;
mod metrics;
mod networks;
#[cfg(target_os = "linux")]
mod operate;
mod programs;
mod prometheus;
mod protocol_detection;
mod proxy_protocol;
mod rate_limits;
mod redispatch;
mod refusals;
mod resume;
#[cfg(target_os = "linux")]
mod service_manager;
mod services;
mod several_servers;
mod several_services;
mod short_transfers;
#[cfg(target_os = "linux")]
mod signals;
mod small_writes;
#[cfg(target_os = "linux")]
mod standard_streams;
mod stream_control;
mod striping;
#[path = "../support/mod.rs"]
mod support;
mod support_checks;
mod text_format;
mod tls;
mod tls_attacks;
mod tls_identity;
mod tokens;
mod transfers;
mod transparency;
mod version_skew;
mod zero_downtime_restart;
