//! The server's reaction to the events of a proxy's link.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use super::{
    balance::Member,
    core::Core,
    proxy::{AnyPortRequest, RemoteProxy},
    registration::{RegistrationRefusal, register, register_any_port},
    registrations::Repeated,
    service::Service,
};
use crate::{
    ids::{ChannelId, NetworkError, StreamKey, UserNetworks, clean},
    link::{Link, LinkEvents, Stream},
    mux::ChannelWish,
    telemetry::{DisconnectReason, EventKind},
    wire::{AddProxy, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// The longest error message of a proxy, in characters, that the server logs.
const MAX_LOGGED_CHARS: usize = 200;

/// Receives the events of one proxy's link.
pub(super) struct RemoteProxyEvents {
    /// The server that the proxy is connected to.
    core: Arc<Core>,
    /// The proxy; set directly after the link was created. Weak, because the proxy owns the link, which owns this.
    proxy: OnceLock<Weak<RemoteProxy>>,
}

impl RemoteProxyEvents {
    /// Creates the receiver. It ignores events until [`set_proxy`](Self::set_proxy) is called; a link without
    /// channels has none.
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, proxy: OnceLock::new() }
    }

    /// Sets the proxy that owns the link.
    pub(super) fn set_proxy(&self, proxy: &Arc<RemoteProxy>) {
        _ = self.proxy.set(Arc::downgrade(proxy));
    }

    /// Returns the proxy that owns the link; `None` if it was dropped already.
    fn proxy(&self) -> Option<Arc<RemoteProxy>> {
        self.proxy.get()?.upgrade()
    }

    /// Handles GOAWAY or EXIT. With the code for it, the proxy has opened another link that replaces this one. While
    /// this server drains, any other means that the proxy has registered with the successor: it keeps serving streams
    /// here. Otherwise the proxy shuts down and receives no new streams.
    fn handle_go_away(&self, proxy: &RemoteProxy, code: Option<ResetCode>) {
        if code == Some(ResetCode::LinkReplaced) {
            proxy.mark_replaced();
            self.core.proxy_moved.notify_one();
        } else if self.core.draining.is_cancelled() {
            proxy.mark_moved();
            self.core.proxy_moved.notify_one();
        } else {
            proxy.start_closing(DisconnectReason::GoAway);
        }
    }
}

impl LinkEvents for RemoteProxyEvents {
    /// Resets a stream that the proxy opened: only the server opens streams.
    fn stream_opened(&self, stream: Stream, _open: Open) {
        // Not reached: the mux already refuses an OPEN that a proxy sends.
        stream.reset(ResetCode::ProtocolViolation);
    }

    /// Handles a message of the proxy about the link itself: registers the proxy for a service, notes its departure,
    /// or logs its error.
    fn message_received(&self, _link: &Arc<Link>, channel: u16, message: TunnelMessage) {
        let Some(proxy) = self.proxy() else { return };
        match message.action {
            TunnelAction::AddProxy(request) => {
                let (core, answer) = (&self.core, Answer { channel, number: request.number });
                let networks = match parse_networks(&request, &message.data) {
                    Ok(networks) => networks,
                    Err(error) => return answer.send(core, &proxy, Err(error.into())),
                };
                let member = Member { proxy: proxy.clone(), networks };
                if request.service.port != 0 {
                    return answer.send(core, &proxy, register(core, &member, &request));
                }
                // In a task of its own: the search may take long, and this one drives a channel.
                match proxy.begin_port_search(request.number) {
                    Ok(AnyPortRequest::New(search)) => {
                        let core = core.clone();
                        self.core.tasks.spawn("search for a free port", async move {
                            let registered = register_any_port(&core, search, &member, &request).await;
                            answer.send(&core, &proxy, registered);
                        });
                    }
                    Ok(AnyPortRequest::Repeated(Repeated::Granted(service))) => {
                        answer.send(core, &proxy, Ok(service));
                    }
                    Ok(AnyPortRequest::Repeated(Repeated::Searching)) => {}
                    Err(refusal) => answer.send(core, &proxy, Err(refusal.into())),
                }
            }
            TunnelAction::RemoveProxy(request) => {
                proxy.remove_service(request.port);
                let answer = TunnelMessage::control(TunnelAction::Granted(request.number), "");
                proxy.link.send_message(channel, answer);
            }
            TunnelAction::Exit => self.handle_go_away(&proxy, ResetCode::from_text_reason(&message.data)),
            TunnelAction::Error => {
                let reason = clean(&String::from_utf8_lossy(&message.data), MAX_LOGGED_CHARS);
                self.core.proxy_error_log.log(|| {
                    tracing::warn!("proxy {} {} reports an error: {reason}", proxy.id, proxy.stats.name);
                });
            }
            // A repeated AUTH has no effect. The remaining actions are answers, and the server has asked nothing.
            _ => {}
        }
    }

    /// Handles GOAWAY received from the proxy, see [`handle_go_away`](Self::handle_go_away).
    fn go_away_received(&self, code: ResetCode) {
        if let Some(proxy) = self.proxy() {
            self.handle_go_away(&proxy, Some(code));
        }
    }

    /// Reports that the proxy has lost its last channel, and that its streams are kept until `until`.
    fn detached(&self, until: Instant) {
        if let Some(proxy) = self.proxy() {
            proxy.set_attached(false);
            proxy.stats.set_grace_deadline(Some(until));
            let grace = until.saturating_duration_since(Instant::now());
            self.core.telemetry.emit(EventKind::GracePeriodStarted { proxy: proxy.id, grace });
        }
    }

    /// Reports that the proxy has a channel again, and wakes the users that wait for a proxy.
    fn resumed(&self, after: Duration) {
        if let Some(proxy) = self.proxy() {
            proxy.set_attached(true);
            proxy.stats.set_grace_deadline(None);
            self.core.telemetry.emit(EventKind::ProxyResumed { proxy: proxy.id, after });
            proxy.wake_waiting_users();
        }
    }

    /// Reports that this server has asked the proxy for another number of channels.
    fn channels_wanted(&self, wish: ChannelWish) {
        if let (Some(proxy), ChannelWish::Own(plan)) = (self.proxy(), wish) {
            let plan = plan.to_string();
            self.core.telemetry.emit(EventKind::ChannelsPlanned { proxy: proxy.id, plan });
        }
    }

    /// Reports a frame of a text-format proxy for a stream that does not exist.
    fn unknown_stream(&self, channel: u16, key: StreamKey) {
        if let Some(proxy) = self.proxy() {
            let channel = ChannelId { proxy: proxy.id, index: channel };
            self.core.telemetry.emit(EventKind::UnknownStream { channel, key });
        }
    }
}

/// Returns the networks of the users that a proxy admits, which the `data` of its registration contains if it says so.
///
/// # Errors
/// The data contains something else, or nothing.
fn parse_networks(request: &AddProxy, data: &[u8]) -> Result<UserNetworks, NetworkError> {
    if !request.has_networks {
        return Ok(UserNetworks::default());
    }
    let networks: UserNetworks = str::from_utf8(data).map_err(|_| NetworkError::Invalid)?.parse()?;
    if networks.is_empty() { Err(NetworkError::Invalid) } else { Ok(networks) }
}

/// Where and how a registration is answered.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// The channel on which the request arrived.
    channel: u16,
    /// The number of the request, which the answer repeats.
    number: Option<u32>,
}

impl Answer {
    /// Sends the answer to a registration of `proxy`, and reports a refusal.
    fn send(
        self,
        core: &Core,
        proxy: &RemoteProxy,
        registered: Result<Arc<Service<RemoteProxy>>, RegistrationRefusal>,
    ) {
        let mut answer = match registered {
            Ok(service) => TunnelMessage::control(TunnelAction::Response, service.key.to_string()),
            Err(refusal) => {
                let reason = refusal.to_string();
                let answer = TunnelMessage::error(refusal.code(), &reason);
                core.telemetry.emit(EventKind::RegistrationRefused {
                    proxy: proxy.id,
                    name: proxy.stats.name.clone(),
                    reason,
                });
                answer
            }
        };
        if let Some(number) = self.number {
            answer.action = match answer.action {
                TunnelAction::Response => TunnelAction::Granted(number),
                _ => TunnelAction::Refused(number),
            };
        }
        proxy.link.send_message(self.channel, answer);
        if core.draining.is_cancelled() {
            // The proxy registered after the GOAWAY was sent to all others.
            core.send_go_away(proxy);
        }
    }
}
