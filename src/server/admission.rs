use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, TcpStream as StdStream},
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{
    Core,
    proxy::{ChannelSlot, RemoteProxy, RemoteProxyEvents},
};
use crate::{
    config::TextProxies,
    ids::{ProxyId, clean},
    link::{Link, NewChannel, RateLimit},
    mux::{MuxConfig, Role},
    net::{ChannelSocket, DetectedFormat, Negotiation, NegotiationError},
    telemetry::{ChannelFormat, EventKind},
    wire::{
        HelloMode, TunnelAction, TunnelMessage, Welcome,
        binary::{CHECKSUMS, FrameCodec},
        handshake::{HandshakeError, ServerHandshake, ServerStep, VerifiedProxy},
        text::{self, FieldCount},
    },
};

/// How much of a name is kept, in characters: all that a HELLO has room for.
const MAX_NAME: usize = 255;

/// How many pending may be in their handshake, in all and from one address.
#[derive(Debug)]
pub(super) struct Admission {
    limits: (usize, usize),
    pending: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A stranger's place; dropped when it is one no more.
#[derive(Debug)]
pub(super) struct PendingConnection<'a> {
    admission: &'a Admission,
    addr: IpAddr,
}

impl Admission {
    pub(super) fn new(limits: (usize, usize)) -> Self {
        Self { limits, pending: Mutex::default() }
    }

    /// `None` if there are too many pending.
    fn enter(&self, addr: IpAddr) -> Option<PendingConnection<'_>> {
        let mut pending = self.pending.lock();
        let (all, by_addr) = &mut *pending;
        let here = by_addr.get(&addr).copied().unwrap_or_default();
        if *all >= self.limits.0 || here >= self.limits.1 {
            return None;
        }
        *all += 1;
        by_addr.insert(addr, here + 1);
        Some(PendingConnection { admission: self, addr })
    }
}

impl Drop for PendingConnection<'_> {
    fn drop(&mut self) {
        let mut pending = self.admission.pending.lock();
        let (all, by_addr) = &mut *pending;
        *all -= 1;
        if let Some(here) = by_addr.get_mut(&self.addr) {
            *here -= 1;
            if *here == 0 {
                by_addr.remove(&self.addr);
            }
        }
    }
}

/// A connection that may be a channel from now on.
struct AdmittedChannel {
    place: ChannelSlot,
    socket: ChannelSocket,
    read_ahead: BytesMut,
    codec: FrameCodec,
    text: Option<FieldCount>,
}

/// Greets one connection on the tunnel port, and drives it as a channel if it proves itself.
pub(super) async fn admit_connection(core: &Arc<Core>, socket: StdStream, addr: SocketAddr) {
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return core.turn_away(addr, &error.to_string()),
    };
    let admitted = {
        let Some(_stranger) = core.admission.enter(addr.ip()) else {
            return core.turn_away(addr, "too many connections in their handshake");
        };
        let negotiation = Negotiation::new(ChannelSocket::plain(socket));
        tokio::select! {
            // One deadline for all of it: one for each read would let a byte a second hold the place for ever.
            admitted = tokio::time::timeout(core.config.handshake_timeout, admit(core, negotiation, addr)) => match admitted {
                Ok(Ok(admitted)) => admitted,
                Ok(Err(error)) => return core.turn_away(addr, &error.to_string()),
                Err(_) => return core.turn_away(addr, "the handshake took too long"),
            },
            () = core.draining.cancelled() => return,
        }
    };
    // The channels of a proxy, and the first channels of proxies, are spread over the workers.
    let id = admitted.place.id;
    let worker = id.proxy.0 as usize + usize::from(id.index);
    let owned = core.clone();
    core.tasks.spawn_on(worker, format!("channel {id}"), async move { drive(&owned, admitted, addr).await });
}

async fn admit(
    core: &Arc<Core>,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    match negotiation.detect_format().await? {
        DetectedFormat::Binary => admit_binary(core, negotiation, addr).await,
        DetectedFormat::Text => admit_text(core, negotiation, addr).await,
    }
}

async fn admit_binary(
    core: &Arc<Core>,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    let admitted = match prove(core, &mut negotiation).await {
        Ok(verified) => let_in(core, &mut negotiation, verified, addr).await,
        Err(error) => Err(error),
    };
    match admitted {
        Ok(place) => {
            let (socket, read_ahead, codec) = negotiation.into_parts();
            Ok(AdmittedChannel { place, socket, read_ahead, codec, text: None })
        }
        Err(NegotiationError::Refused(error)) => {
            negotiation.send_frame(&error.refusal()).await?;
            Err(error.into())
        }
        Err(error) => Err(error),
    }
}

/// Finds or makes the link that the proxy wants, and welcomes it there.
async fn let_in(
    core: &Arc<Core>,
    negotiation: &mut Negotiation,
    verified: VerifiedProxy,
    addr: SocketAddr,
) -> Result<ChannelSlot, NegotiationError> {
    let hello = &verified.hello;
    let (mode, epoch) = (hello.mode, hello.epoch);
    let (link, proxy) = match mode {
        HelloMode::New => {
            let link: [u8; 16] = rand::random();
            (link, core.proxy_up(&hello.name, link, None, addr))
        }
        HelloMode::Join | HelloMode::Resume => {
            // It was there when the handshake began.
            (hello.link, core.link(hello.link).ok_or(HandshakeError::UnknownLink)?)
        }
    };
    let full = || HandshakeError::TooManyChannels;
    let place = proxy.place(mode == HelloMode::Resume).ok_or_else(full)?;
    let ticket = {
        let mut tickets = proxy.tickets.lock();
        // Of two that come with one ticket at the same time, the second comes too late.
        let shown = tickets.of_epoch(epoch).filter(|&ticket| tickets.honour(ticket));
        match (mode, shown) {
            (HelloMode::New, _) => tickets.valid(),
            (HelloMode::Join, Some(shown)) => shown,
            (HelloMode::Resume, Some(_)) => tickets.offer(),
            (HelloMode::Join | HelloMode::Resume, None) => return Err(HandshakeError::UnknownLink.into()),
        }
    };
    let mux = MuxConfig::default();
    let features = hello.features & CHECKSUMS;
    let millis = |time: std::time::Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let welcome = verified.welcome(Welcome {
        link,
        epoch: ticket.epoch,
        channel: place.id.index,
        features,
        max_streams: u32::try_from(mux.max_streams).unwrap_or(u32::MAX),
        first_window: core.config.initial_window,
        grace_ms: millis(core.config.grace_period),
        // Whoever joins has shown that it knows it.
        resume_secret: (mode != HelloMode::Join).then_some(ticket.secret),
        mac: [0; 32],
    });
    negotiation.send_frame(&welcome).await?;
    negotiation.set_features(features);
    if mode == HelloMode::Resume {
        // The first ping of the channel. Until then the answer may be lost, and what the proxy had before must do.
        negotiation.wait_for_data().await?;
        if !proxy.tickets.lock().honour(ticket) {
            return Err(HandshakeError::UnknownLink.into());
        }
        proxy.link.fence();
    }
    Ok(place)
}

async fn prove(core: &Core, negotiation: &mut Negotiation) -> Result<VerifiedProxy, NegotiationError> {
    let mut server = ServerHandshake::new(core.token.clone(), rand::random());
    loop {
        match server.on_frame(negotiation.recv_frame().await?)? {
            ServerStep::Verified(verified) => return Ok(verified),
            ServerStep::Send(next, frame) => {
                let shown = next.link().and_then(|(link, epoch)| {
                    let proxy = core.link(link)?;
                    proxy.tickets.lock().of_epoch(epoch)
                });
                server = match shown {
                    Some(ticket) => next.with_secret(ticket.secret),
                    None => next,
                };
                negotiation.send_frame(&frame).await?;
            }
        }
    }
}

async fn admit_text(
    core: &Arc<Core>,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    let (mut line, fields, length) = negotiation.peek_line().await?;
    let allowed = match core.config.text_proxies {
        TextProxies::Off => false,
        TextProxies::Loopback => addr.ip().to_canonical().is_loopback(),
        TextProxies::Anywhere => true,
    };
    if !allowed {
        return refuse_text(negotiation, fields, "the text format is not taken from this address").await;
    }
    if line.action == TunnelAction::Auth {
        if !core.token.matches(&line.data) {
            return refuse_text(negotiation, fields, "wrong token").await;
        }
        negotiation.consume(length);
        (line, _, _) = negotiation.peek_line().await?;
    } else if !(core.config.text_without_token && addr.ip().to_canonical().is_loopback()) {
        return refuse_text(negotiation, fields, "send AUTH with the token first").await;
    }
    let TunnelAction::AddProxy(_) = line.action else {
        return refuse_text(negotiation, fields, "register with ADDPROXY first").await;
    };
    // The line stays in the buffer: the channel's driver reads it like every later one.
    let Some(place) = core.proxy_up("", rand::random(), Some(fields), addr).place(false) else {
        return Err(NegotiationError::Closed);
    };
    let (socket, read_ahead, codec) = negotiation.into_parts();
    Ok(AdmittedChannel { place, socket, read_ahead, codec, text: Some(fields) })
}

async fn refuse_text(
    mut negotiation: Negotiation,
    fields: FieldCount,
    reason: &'static str,
) -> Result<AdmittedChannel, NegotiationError> {
    let mut line = BytesMut::new();
    text::encode_line(&TunnelMessage::error(reason), fields, &mut line);
    // The registration usually follows the token without a pause.
    negotiation.send_and_close(line.freeze()).await?;
    Err(NegotiationError::TextRefused(reason))
}

async fn drive(core: &Arc<Core>, admitted: AdmittedChannel, addr: SocketAddr) {
    let AdmittedChannel { place, socket, read_ahead, codec, text } = admitted;
    let socket = match socket.move_to_current_runtime() {
        Ok(socket) => socket,
        Err(error) => return core.turn_away(addr, &error.to_string()),
    };
    let format = match text {
        None => ChannelFormat::Binary,
        Some(FieldCount::Four) => ChannelFormat::Text,
        Some(FieldCount::Three) => ChannelFormat::ThreeFieldText,
    };
    let guard = core.telemetry.channel_up(place.id, addr, format);
    place.count(guard.stats());
    let stats = Some(guard.stats().clone());
    let drive = NewChannel { id: place.id.index, socket, read_ahead, codec, text, stats };
    let reason = place.proxy.link.drive(drive).await;
    guard.set_reason(place.proxy.channel_gone(reason));
}

impl Core {
    fn turn_away(&self, addr: SocketAddr, reason: &str) {
        // Errors may quote what came in.
        let reason = clean(reason, 200);
        self.telemetry.emit(EventKind::HandshakeFailed { addr, reason });
    }

    /// The proxy whose link this is, if it is still waited for.
    fn link(&self, link: [u8; 16]) -> Option<Arc<RemoteProxy>> {
        self.links.get(&link).filter(|proxy| !proxy.has_received_goaway()).map(|proxy| proxy.clone())
    }

    /// A new proxy, and the task that looks after it until its link is over.
    fn proxy_up(
        self: &Arc<Self>,
        name: &str,
        link_id: [u8; 16],
        text: Option<FieldCount>,
        addr: SocketAddr,
    ) -> Arc<RemoteProxy> {
        let id = ProxyId(self.next_proxy.fetch_add(1, Relaxed));
        let name = Some(clean(name.trim(), MAX_NAME)).filter(|name| !name.is_empty());
        let guard = self.telemetry.proxy_up(id, name.unwrap_or_else(|| id.to_string()), addr);
        let events = Arc::new(RemoteProxyEvents { core: self.clone(), proxy: OnceLock::new() });
        let budget = self.budget.clone();
        let (initial_window, chunk_size, allow_striping) =
            (self.config.initial_window, self.config.max_chunk, self.config.stripe);
        let config = MuxConfig { initial_window, budget, chunk_size, allow_striping, ..MuxConfig::default() };
        let link = Link::new(Role::Server, config, text, events.clone());
        let limit = RateLimit::new(&self.limit_count);
        let proxy = RemoteProxy::new(guard, link, limit);
        _ = events.proxy.set(Arc::downgrade(&proxy));
        self.links.insert(link_id, proxy.clone());
        self.proxies.insert(id, proxy.clone());
        let (core, owned) = (self.clone(), proxy.clone());
        self.tasks.spawn(format!("proxy {id}"), async move {
            owned.link.ended().await;
            core.links.remove(&link_id);
            core.proxies.remove(&id);
            owned.gone();
            core.moved.notify_one();
        });
        // Whoever ends the server sends off those that it finds, and this one may have come after it had looked.
        if self.hard_stop.is_cancelled() {
            proxy.send_off();
        }
        proxy
    }
}
