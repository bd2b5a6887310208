//! Registration: a proxy asks for a public port, which is opened or joined.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::task::yield_now;

use super::{
    balance::Member,
    core::Core,
    grants::GrantRefusal,
    proxy::{MAX_SERVICES_PER_PROXY, PortSearch, RemoteProxy, ServiceRejection},
    public_port,
    service::Service,
    tunnel_descriptors::TunnelDescriptor,
};
use crate::{
    config::PortRange,
    ids::{Group, NetworkError, ServiceKey},
    link::RateLimit,
    net::Listener,
    wire::{AddProxy, ErrorCode},
};

/// Why the server refused to register a proxy for a service. The text is sent to the proxy, which shows it to its
/// operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistrationRefusal {
    /// The proxy has sent GOAWAY, was kicked or is disconnecting.
    #[error("the proxy is disconnecting")]
    ProxyClosing,
    /// The proxy has reached the limit of services.
    #[error("a proxy may register for at most {MAX_SERVICES_PER_PROXY} services")]
    TooManyServices,
    /// The networks of the users that the proxy admits are not valid.
    #[error("the networks of the registration: {0}")]
    InvalidNetworks(#[from] NetworkError),
    /// The port is open and belongs to another group of proxies.
    #[error(
        "port {port} is already served by group «{group}»: give --group {group} to share its users, or choose another port"
    )]
    OtherGroup { port: u16, group: Group },
    /// The entry of the proxy's token does not allow the port or the group.
    #[error(transparent)]
    NotGranted(#[from] GrantRefusal),
    /// The configuration does not allow the port.
    #[error("port {port} is not allowed: the server allows ports {allowed}")]
    PortNotAllowed { port: u16, allowed: PortRange },
    /// Another process listens on the port (`EADDRINUSE`).
    #[error("port {0} is in use on the server")]
    PortInUse(u16),
    /// The operating system denies the port to this process (`EACCES`).
    #[error("port {0} needs privileges that the server does not have (CAP_NET_BIND_SERVICE)")]
    PermissionDenied(u16),
    /// Any other error of opening the port.
    #[error("port {port} cannot be opened: {source}")]
    CannotOpen { port: u16, source: io::Error },
    /// Port 0 was requested and every allowed port is in use.
    #[error("no port of {0} is free")]
    NoFreePort(PortRange),
    /// The number of the port that was opened could not be read (getsockname(2)).
    #[error("the address of the new port cannot be read: {0}")]
    NoLocalAddress(io::Error),
}

impl RegistrationRefusal {
    /// Returns the code that the proxy receives, by which it decides whether to ask again.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::ProxyClosing => ErrorCode::Disconnecting,
            Self::TooManyServices => ErrorCode::TooManyServices,
            Self::InvalidNetworks(_) => ErrorCode::InvalidNetworks,
            Self::OtherGroup { .. } => ErrorCode::OtherGroup,
            Self::PortNotAllowed { .. } | Self::NotGranted(_) => ErrorCode::PortNotAllowed,
            Self::PortInUse(_) => ErrorCode::PortInUse,
            Self::PermissionDenied(_) => ErrorCode::PortDenied,
            Self::CannotOpen { .. } | Self::NoLocalAddress(_) => ErrorCode::PortUnavailable,
            Self::NoFreePort(_) => ErrorCode::NoFreePort,
        }
    }
}

/// How many ports a search for a free one tries before other tasks of its thread run: bind(2) takes a few microseconds,
/// and a range full of ports of other programs has up to 64,512.
const PORTS_PER_TURN: usize = 64;

/// Registers the proxy of `member` for the service in `request`, which opens the public port if it is not open yet.
/// From its first registration on, the link survives the loss of all channels for the grace period. Returns the
/// service.
///
/// # Errors
/// [`RegistrationRefusal`]; the proxy keeps its earlier registrations.
pub(super) fn register(
    core: &Arc<Core>,
    member: &Member<RemoteProxy>,
    request: &AddProxy,
) -> Result<Arc<Service<RemoteProxy>>, RegistrationRefusal> {
    let proxy = &member.proxy;
    // Before a port is opened for nothing; `add_service` checks again.
    proxy.check_may_register(request.service.port)?;
    proxy.grant().check_service(&request.service)?;
    if let Some(weight) = request.weight {
        proxy.set_requested_weight(weight);
    }
    complete(core, proxy, join_service(core, &request.service, member)?, None)
}

/// Registers the proxy of `member` for a service on any free port, as [`register`] does for the one that is requested.
/// The search yields after every [`PORTS_PER_TURN`] ports, and ends when the proxy does. `search` counts it among the
/// services of the proxy.
pub(super) async fn register_any_port(
    core: &Arc<Core>,
    search: PortSearch,
    member: &Member<RemoteProxy>,
    request: &AddProxy,
) -> Result<Arc<Service<RemoteProxy>>, RegistrationRefusal> {
    let proxy = &member.proxy;
    proxy.grant().check_service(&request.service)?;
    if let Some(weight) = request.weight {
        proxy.set_requested_weight(weight);
    }
    let service = open_any_port(core, &request.service.group, member).await?;
    complete(core, proxy, service, Some(&search))
}

/// Adds `service`, which `proxy` has joined, to the services of the proxy; its port was found by `search`, if by one.
/// Returns the service.
fn complete(
    core: &Core,
    proxy: &Arc<RemoteProxy>,
    service: Arc<Service<RemoteProxy>>,
    search: Option<&PortSearch>,
) -> Result<Arc<Service<RemoteProxy>>, RegistrationRefusal> {
    match proxy.add_service(&service, search) {
        Ok(true) => {
            // From now on there is something to resume.
            proxy.link.set_resume_grace(core.config().grace_period);
            proxy.report_registered(&service);
        }
        Ok(false) => {}
        Err(refusal) => {
            service.pool.leave(proxy);
            return Err(refusal.into());
        }
    }
    Ok(service)
}

impl From<ServiceRejection> for RegistrationRefusal {
    fn from(rejection: ServiceRejection) -> Self {
        match rejection {
            ServiceRejection::ProxyClosing => Self::ProxyClosing,
            ServiceRejection::TooManyServices => Self::TooManyServices,
        }
    }
}

/// Adds `member` to the pool of the service that it asks for, which opens the public port if it is not open yet.
/// Returns the service.
fn join_service(
    core: &Arc<Core>,
    requested: &ServiceKey,
    member: &Member<RemoteProxy>,
) -> Result<Arc<Service<RemoteProxy>>, RegistrationRefusal> {
    if let Some(joined) = join_open_service(core, requested, member)? {
        return Ok(joined);
    }
    let changing = core.port_changes.lock();
    // Another proxy may have opened the port meanwhile.
    if let Some(joined) = join_open_service(core, requested, member)? {
        return Ok(joined);
    }
    let listener = open_port(core, requested.port)?;
    let (service, port) = enter_service(core, &requested.group, listener, member)?;
    drop(changing);
    Ok(start_service(core, service, port))
}

/// Adds `member` to the pool of the service with this port if it is open; `None` if it is not.
///
/// Both happen under the lock of the table of services: a service without proxies may close at any time. The users that
/// wait for a proxy are woken after that.
fn join_open_service(
    core: &Core,
    requested: &ServiceKey,
    member: &Member<RemoteProxy>,
) -> Result<Option<Arc<Service<RemoteProxy>>>, RegistrationRefusal> {
    let service = {
        let services = core.services.lock();
        let Some(service) = services.get(&requested.port) else { return Ok(None) };
        if service.key.group != requested.group {
            let group = service.key.group.clone();
            return Err(RegistrationRefusal::OtherGroup { port: requested.port, group });
        }
        service.pool.add(member.clone());
        service.clone()
    };
    service.pool.wake_waiting();
    Ok(Some(service))
}

/// A public port that was opened and does not accept users yet.
struct OpenPort {
    /// The listening socket.
    listener: Listener,
    /// The reserved descriptor of the socket.
    descriptor: TunnelDescriptor,
}

/// Enters the service of a port that was opened into the table of services, with `member` as its first. The caller
/// holds the lock on changes of ports, and [starts](start_service) the service after it has released that.
fn enter_service(
    core: &Core,
    group: &Group,
    listener: Listener,
    member: &Member<RemoteProxy>,
) -> Result<(Arc<Service<RemoteProxy>>, OpenPort), RegistrationRefusal> {
    let port = listener.local_addr().map_err(RegistrationRefusal::NoLocalAddress)?.port();
    let no_descriptor = |max| RegistrationRefusal::CannotOpen { port, source: io::Error::other(max) };
    let descriptor = core.descriptors.reserve(member.proxy.address).map_err(no_descriptor)?;
    let service = Service::new(
        core.telemetry.register_service(ServiceKey { port, group: group.clone() }),
        core.config().default_policy,
        RateLimit::new(&core.limit_count),
        core.close_ports.child_token(),
    );
    service.pool.join(member.clone());
    core.services.lock().insert(port, service.clone());
    Ok((service, OpenPort { listener, descriptor }))
}

/// Reports that a service was opened, and starts the task that accepts its users.
fn start_service(
    core: &Arc<Core>,
    service: Arc<Service<RemoteProxy>>,
    port: OpenPort,
) -> Arc<Service<RemoteProxy>> {
    service.report_opened();
    let OpenPort { listener, descriptor } = port;
    let open = core.open_ports.token();
    let task = public_port::run(core.clone(), service.clone(), listener);
    core.tasks.spawn(format!("service {}", service.key), async move {
        task.await;
        drop((open, descriptor));
    });
    service
}

/// Opens the public port `port`, if the configuration allows it. Connections accepted from it are reset when they are
/// closed (`SO_LINGER` 0) until all data has been relayed, so that an aborted transfer never looks complete.
fn open_port(core: &Core, port: u16) -> Result<Listener, RegistrationRefusal> {
    let allowed = core.config().allowed_ports;
    if !allowed.contains(port) {
        return Err(RegistrationRefusal::PortNotAllowed { port, allowed });
    }
    let addr = SocketAddr::new(core.config().bind, port);
    Listener::bind_with_reset_on_close(addr, core.config().reuse_port).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => RegistrationRefusal::PortInUse(port),
        io::ErrorKind::PermissionDenied => RegistrationRefusal::PermissionDenied(port),
        _ => RegistrationRefusal::CannotOpen { port, source },
    })
}

/// Opens the service of a free port of the allowed range, with `member` as its first. The search starts at a random
/// port. Each port is tried by itself, so that a search through a range that is in use delays no other registration.
async fn open_any_port(
    core: &Arc<Core>,
    group: &Group,
    member: &Member<RemoteProxy>,
) -> Result<Arc<Service<RemoteProxy>>, RegistrationRefusal> {
    let allowed = core.config().allowed_ports;
    let try_port = |port| {
        if member.proxy.is_closing() {
            return Some(Err(RegistrationRefusal::ProxyClosing));
        }
        let is_open = || core.services.lock().contains_key(&port);
        if is_open() {
            return None;
        }
        let _changing = core.port_changes.lock();
        if is_open() {
            return None;
        }
        let listener = open_if_free(core, port)?;
        Some(enter_service(core, group, listener, member))
    };
    let found = find_port(member.proxy.grant().candidates(allowed, rand::random()), try_port).await;
    let (service, port) = found.unwrap_or(Err(RegistrationRefusal::NoFreePort(allowed)))?;
    Ok(start_service(core, service, port))
}

/// Returns what `try_port` returns for the first of `candidates` for which that is something. Yields after every
/// [`PORTS_PER_TURN`] of them.
async fn find_port<T>(
    candidates: impl Iterator<Item = u16>,
    mut try_port: impl FnMut(u16) -> Option<T>,
) -> Option<T> {
    for (tried, port) in candidates.enumerate() {
        if tried > 0 && tried % PORTS_PER_TURN == 0 {
            yield_now().await;
        }
        if let Some(found) = try_port(port) {
            return Some(found);
        }
    }
    None
}

/// Opens the port if no process listens on it.
fn open_if_free(core: &Core, port: u16) -> Option<Listener> {
    let addr = SocketAddr::new(core.config().bind, port);
    // Binding with `SO_REUSEPORT` also succeeds on a port that another process shares. A free port is one that can be
    // bound without it.
    let unshared = Listener::bind_with_reset_on_close(addr, false).ok()?;
    if !core.config().reuse_port {
        return Some(unshared);
    }
    drop(unshared);
    Listener::bind_with_reset_on_close(addr, true).ok()
}

#[cfg(test)]
mod tests;
