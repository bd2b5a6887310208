//! What all links of one proxy have in common, whichever server they lead to.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    loop_detector::LoopDetector, observer::Observer, open_streams::OpenStreams, service_list::ServiceList,
};
use crate::{config::ProxyConfig, mux::MemoryBudget, net::Connector, runtime::Tasks, wire::handshake::Token};

/// What all links of one proxy have in common.
#[derive(Debug, Clone)]
pub(super) struct SharedParts {
    /// The configuration of the proxy.
    pub(super) config: Arc<ProxyConfig>,
    /// The secret that proxy and servers prove to each other.
    pub(super) token: Token,
    /// Establishes TCP connections to servers and to the targets.
    pub(super) connector: Arc<Connector>,
    /// Compares the users of all streams with the connections to the targets.
    pub(super) loops: Arc<LoopDetector>,
    /// Spawns the tasks of channels and streams.
    pub(super) tasks: Tasks,
    /// The open streams of all links.
    pub(super) streams: OpenStreams,
    /// Cancelled to drain: no new streams, and the proxy ends when the open ones have.
    pub(super) draining: CancellationToken,
    /// Shows operators what the proxy does; `None` for a proxy without a control socket.
    pub(super) observer: Option<Arc<Observer>>,
    /// The memory budget of the buffers of all streams.
    pub(super) memory: MemoryBudget,
    /// The services that the proxy is to serve.
    pub(super) lists: watch::Receiver<ServiceList>,
}
