//! The task of one public port: accepts users until the server stops or the service has been without a proxy for
//! long.

use std::{
    net::{SocketAddr, TcpStream as StdStream},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    accept::{self, accept_loop},
    core::Core,
    proxy::RemoteProxy,
    service::{PendingUser, Service},
    user_connection,
};
use crate::net::Listener;

/// How long, after the handover of a shared port to the successor, this server still accepts connections whose TCP
/// handshake had begun: as long as the kernel waits before it retransmits a lost handshake packet.
pub(super) const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts users of `service` until the server closes its ports, or until the service has had no proxy for the
/// configured timeout and no user waits for one, or for twice that time. Then removes the service and closes the port.
pub(super) async fn run(core: Arc<Core>, service: Arc<Service<RemoteProxy>>, listener: Listener) {
    let mut listener = Some(listener);
    // Users that connect again and again would keep a port open that no proxy serves.
    let mut has_waiting_users_before = false;
    let admit = |socket, addr| admit_user(&core, &service, socket, addr);
    loop {
        let stop = async {
            tokio::select! {
                () = service.close.cancelled() => {}
                () = service.wait_idle(core.config().idle_service_timeout) => {}
            }
        };
        let Some(open) = &listener else { return };
        accept_loop(open, &core.telemetry, stop, &admit).await;
        if service.close.is_cancelled() && core.config().reuse_port {
            open.divert_new_connections();
            let half_open_completed = async {
                tokio::select! {
                    () = tokio::time::sleep(HALF_OPEN_TIMEOUT) => {}
                    () = core.abort.cancelled() => {}
                }
            };
            accept_loop(open, &core.telemetry, half_open_completed, &admit).await;
        }
        let also_with_users = has_waiting_users_before && !service.close.is_cancelled();
        if close_if_unused(&core, &service, &mut listener, also_with_users) {
            return;
        }
        has_waiting_users_before = service.pool.is_empty();
        let Some(listener) = listener.take_if(|_| service.close.is_cancelled()) else { continue };
        core.services.lock().remove(&service.key.port);
        if let Err(error) = accept::close(listener, admit) {
            tracing::warn!(
                "closing public port {} may have reset connections of users that waited to be accepted: {error}",
                service.key
            );
        }
        return;
    }
}

/// Removes the service and closes its port if it has neither a proxy nor a user that waits for one; `also_with_users`
/// if it has no proxy. Returns whether it did.
fn close_if_unused(
    core: &Core,
    service: &Service<RemoteProxy>,
    listener: &mut Option<Listener>,
    also_with_users: bool,
) -> bool {
    // A proxy that registers for the port next must find it free.
    let _changing = core.port_changes.lock();
    let mut services = core.services.lock();
    // Decided under the lock, under which proxies join: one may have joined since the timeout.
    if !(service.is_unused() || also_with_users && service.pool.is_empty()) {
        return false;
    }
    let removed = services.remove(&service.key.port);
    drop(services);
    listener.take();
    drop(removed);
    true
}

/// Starts a task that serves one user connection, on the next worker thread; or refuses the connection, which closing
/// it resets.
fn admit_user(core: &Arc<Core>, service: &Arc<Service<RemoteProxy>>, socket: StdStream, addr: SocketAddr) {
    if core.balancers.is_trusted(addr) {
        return admit_balanced_user(core, service, socket, addr);
    }
    // Admitted here and not in the task: once the accept loop has ended, the drain waits for all that were admitted.
    // And the sockets of a flood would wait for their tasks, beyond the limit of descriptors.
    let admitted = match core.user_admission.admit(service, addr.ip(), Instant::now()) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            drop(socket);
            return core.report_rejected_user(&service.key, addr, refusal.to_string());
        }
    };
    let (owned, pending) = (core.clone(), PendingUser::new(service));
    core.tasks.spawn_on(core.tasks.next_worker(), "user", async move {
        let _admitted = admitted;
        match TcpStream::from_std(socket) {
            Ok(socket) => user_connection::serve(&owned, pending, socket, addr.into()).await,
            Err(error) => owned.report_rejected_user(&pending.service().key, addr, error.to_string()),
        }
    });
}

/// Starts a task that reads from a connection of the load balancer at `addr` who the user is, and serves the connection
/// like one from there. Until then it counts for the server and the service, but for no user.
fn admit_balanced_user(
    core: &Arc<Core>,
    service: &Arc<Service<RemoteProxy>>,
    socket: StdStream,
    addr: SocketAddr,
) {
    let reserved = match core.user_admission.reserve(service) {
        Ok(reserved) => reserved,
        Err(refusal) => {
            drop(socket);
            return core.report_rejected_user(&service.key, addr, refusal.to_string());
        }
    };
    let header = core.balancers.admit(addr);
    let (owned, pending) = (core.clone(), PendingUser::new(service));
    core.tasks.spawn_on(core.tasks.next_worker(), "user behind a load balancer", async move {
        let service = pending.service().clone();
        let reject = |addr, reason| owned.report_rejected_user(&service.key, addr, reason);
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return reject(addr, error.to_string()),
        };
        let origin = tokio::select! {
            origin = owned.balancers.read_user(header, &socket, addr) => origin,
            () = owned.abort.cancelled() => return,
        };
        let origin = match origin {
            Ok(origin) => origin,
            Err(error) if error.is_usual() => return tracing::debug!("user connection from {addr}: {error}"),
            Err(error) => return reject(addr, error.to_string()),
        };
        let (admission, ip) = (&owned.user_admission, origin.addr.ip());
        // No user has caused a health check, and a load balancer could name any other address.
        let permitted = if origin.is_health_check { Ok(()) } else { admission.check_networks(&service, ip) };
        match permitted.and_then(|()| admission.admit_reserved(reserved, ip, Instant::now())) {
            Ok(_admitted) => user_connection::serve(&owned, pending, socket, origin).await,
            Err(refusal) => {
                drop(socket);
                reject(origin.addr, refusal.to_string());
            }
        }
    });
}
