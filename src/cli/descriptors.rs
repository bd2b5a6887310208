//! Descriptors of the process: raised to what the system permits, and divided before the first connection.

use crate::{
    config::{ProxyConfig, ServerConfig, SideUses},
    runtime::{descriptor_limit, raise_descriptor_limit},
};

/// Raises the limit of descriptors, and lowers the limits of `config` to what it allows. Logs both. `workers` is the
/// number of worker threads, `uses` what the server does beside the tunnel.
pub(super) fn fit_server(config: &mut ServerConfig, workers: usize, uses: SideUses) -> anyhow::Result<()> {
    let (limit, wanted) = (raise(), config.max_streams);
    config.fit_descriptors(limit, workers, uses)?;
    report(limit, wanted, config.max_streams);
    tracing::info!(
        "channels and public ports of all proxies together: at most {} (what the descriptors leave beside --max-streams)",
        config.max_channels_and_ports
    );
    Ok(())
}

/// Raises the limit of descriptors, and lowers the maximum of streams in `config` to what it allows. Logs both.
/// `workers` is the number of worker threads, `uses` what the proxy does beside the tunnel.
pub(super) fn fit_proxy(config: &mut ProxyConfig, workers: usize, uses: SideUses) -> anyhow::Result<()> {
    let (limit, wanted) = (raise(), config.max_streams);
    config.fit_descriptors(limit, workers, uses)?;
    report(limit, wanted, config.max_streams);
    Ok(())
}

/// Raises the limit of descriptors to the hard limit. Returns the limit in force, which is the old one where the system
/// refuses another.
pub(super) fn raise() -> u64 {
    raise_descriptor_limit().unwrap_or_else(|error| {
        let limit = descriptor_limit();
        tracing::warn!("cannot raise the limit of {limit} file descriptors (RLIMIT_NOFILE): {error}");
        limit
    })
}

/// Logs how many streams `limit` descriptors allow, as a warning with what to do if that is less than was `wanted`.
fn report(limit: u64, wanted: usize, allowed: usize) {
    if allowed < wanted {
        tracing::warn!(
            "descriptors: {limit}, so at most {allowed} streams instead of {wanted} (option --max-streams); raise the hard \
             limit: ulimit -Hn in a shell, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container"
        );
    } else {
        tracing::info!("descriptors: {limit}, so at most {allowed} streams (option --max-streams)");
    }
}
