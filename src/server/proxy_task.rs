//! Creation of an authenticated proxy, and the task that owns it until its link ends.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    core::Core, grants::GrantUse, proxy::RemoteProxy, proxy_events::RemoteProxyEvents,
    ticket_rotation::LinkId, tunnel_descriptors::TunnelDescriptor,
};
use crate::{
    ids::{ProxyId, clean},
    link::{Link, RateLimit},
    mux::{MuxConfig, Role},
    wire::text::FieldCount,
};

/// The maximum length, in characters, of a proxy's display name. A HELLO cannot carry a longer one.
const MAX_NAME_CHARS: usize = 255;

/// Creates a proxy with a new link and adds it to the server's tables. Starts the task that removes it when the link
/// has ended. `text` is the line layout of a text-format proxy, `None` for the binary format; `addr` is the remote
/// address of the first channel, whose descriptor is reserved; `counted` counts the proxy among those of its token.
pub(super) fn start_proxy(
    core: &Arc<Core>,
    name: &str,
    link_id: LinkId,
    text: Option<FieldCount>,
    addr: SocketAddr,
    (descriptor, counted): (TunnelDescriptor, GrantUse),
) -> Arc<RemoteProxy> {
    let id = core.next_proxy_id();
    let name = display_name(name, id, &counted.grant().name());
    let guard = core.telemetry.proxy_up(id, name, addr);
    let config = MuxConfig {
        initial_window: core.config().initial_window,
        last_stream_number: core.config().last_stream_number,
        budget: core.memory.clone(),
        chunk_size: core.config().max_chunk,
        allow_striping: core.config().stripe,
        max_streams: core.config().max_streams_per_proxy(),
        ..MuxConfig::default()
    };
    let events = Arc::new(RemoteProxyEvents::new(core.clone()));
    let link = Link::new(Role::Server, config, text, events.clone());
    let limit = RateLimit::new(&core.limit_count);
    let proxy = RemoteProxy::new(id, addr.ip().into(), guard, link, limit, counted);
    events.set_proxy(&proxy);
    core.links.insert(link_id, proxy.clone());
    core.proxies.insert(id, proxy.clone());
    let known_address = core.wrong_tokens.proxy_connected(addr.ip().into(), Instant::now());
    let (owner, owned) = (core.clone(), proxy.clone());
    core.tasks.spawn(format!("proxy {id}"), async move {
        // Until here, so that the link can always be resumed.
        let (_descriptor, _known_address) = (descriptor, known_address);
        owned.link.run_until_ended().await;
        owner.links.remove(&link_id);
        owner.proxies.remove(&id);
        owned.remove_from_services();
        owner.proxy_moved.notify_one();
    });
    // The shutdown closes every proxy that it finds in the table; this one may have been added after it had looked.
    if core.abort.is_cancelled() {
        proxy.close_for_shutdown();
    }
    // The same for the end of its token.
    if proxy.grant().has_ended() {
        core.end_proxy(proxy.clone());
    }
    proxy
}

/// Returns the name of a proxy on the screen. That of its entry, which its token proves, comes first; `announced`,
/// which it may choose, tells several proxies of an entry apart.
fn display_name(announced: &str, id: ProxyId, entry: &str) -> String {
    let announced = clean(announced.trim(), MAX_NAME_CHARS);
    match (entry, &announced[..]) {
        ("", "") => id.to_string(),
        ("", announced) => announced.to_owned(),
        (entry, announced) if announced.is_empty() || announced == entry => entry.to_owned(),
        (entry, announced) => format!("{entry}/{announced}"),
    }
}
