//! The server's side of the binary handshake: authentication, then a new link, one more channel, or a resumption.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    admission::PendingConnection,
    admitted_channel::AdmittedChannel,
    core::Core,
    grants::{Grant, GrantRefusal, GrantUse, Resource},
    proxy::ChannelSlot,
    proxy_task::start_proxy,
    ticket_rotation::{IssuedTicket, LinkId},
};
use crate::{
    mux::MuxConfig,
    net::{Negotiation, NegotiationError},
    wire::{
        Frame, HelloMode, RefusalCode, Welcome,
        binary::{CHECKSUMS, PUBLIC_ADDRESS, SERVICES, USER_NETWORKS, VERSION},
        handshake::{HandshakeError, ServerHandshake, ServerStep, TokenKey, VerifiedProxy},
    },
};

/// Authenticates a proxy of the binary format and assigns its connection to a link. If the proxy is refused it
/// receives the reason before the connection closes.
pub(super) async fn admit_binary(
    core: &Arc<Core>,
    pending: PendingConnection,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    let admitted = match authenticate(core, pending, &mut negotiation, addr).await {
        Ok(verified) => join_link(core, &mut negotiation, verified, addr).await,
        Err(error) => Err(error),
    };
    match admitted {
        Ok(slot) => Ok(AdmittedChannel::new(slot, negotiation, None)),
        Err(NegotiationError::Refused(error)) => {
            negotiation.send_last_frame(&error.refusal()).await?;
            Err(error.into())
        }
        Err(error) => {
            let code = match error {
                NegotiationError::NoDescriptor(_) => RefusalCode::ServerFull,
                NegotiationError::AddressBlocked => RefusalCode::AddressBlocked,
                error => return Err(error),
            };
            negotiation.send_last_frame(&Frame::Refused { code, version: VERSION }).await?;
            Err(error)
        }
    }
}

/// Runs HELLO, CHALLENGE and PROOF: verifies by HMAC that the proxy knows the token and, if it adds a channel to an
/// existing link or resumes one, the secret of a valid resumption ticket. Then the connection is not `pending` any
/// more: the limits of its link apply to it.
async fn authenticate(
    core: &Core,
    mut pending: PendingConnection,
    negotiation: &mut Negotiation,
    addr: SocketAddr,
) -> Result<VerifiedProxy, NegotiationError> {
    let mut handshake =
        ServerHandshake::new(core.grants.load().keys(), rand::random()).with_exporter(negotiation.exporter());
    loop {
        let step = handshake.on_frame(negotiation.recv_frame().await?);
        // Never before the proof is verified: who shares the address with a proxy must not keep it out.
        if matches!(step, Err(HandshakeError::WrongToken)) {
            // Still one of the `pending` connections.
            core.penalize_wrong_token(addr).await.map_err(|_| NegotiationError::AddressBlocked)?;
        }
        match step? {
            ServerStep::Verified(verified) => return Ok(verified),
            ServerStep::Send(next, challenge) => {
                let known = next.link().and_then(|(link, epoch)| {
                    let proxy = core.find_link(link)?;
                    let ticket = proxy.tickets.lock().find(epoch)?;
                    Some((link, ticket, proxy.grant().key()?.clone()))
                });
                pending.identify(known.as_ref().map(|(link, ..)| *link));
                handshake = match known {
                    Some((_, ticket, key)) => next.with_secret(ticket.secret).with_key(key),
                    None => next,
                };
                negotiation.send_frame(&challenge).await?;
            }
        }
    }
}

/// Creates a new link for an authenticated proxy, or finds the existing link that its HELLO names, and sends WELCOME.
/// Returns the slot of the new channel. A resumption removes all earlier channels of the link.
async fn join_link(
    core: &Arc<Core>,
    negotiation: &mut Negotiation,
    verified: VerifiedProxy,
    addr: SocketAddr,
) -> Result<ChannelSlot, NegotiationError> {
    let hello = &verified.hello;
    let (mode, epoch) = (hello.mode, hello.epoch);
    let reserve = || {
        let reserved = core.descriptors.reserve(addr.ip().into());
        reserved.map_err(|full| NegotiationError::NoDescriptor(full.to_string()))
    };
    // That of a new link is used again by the channel that resumes it, so that a resumption needs none.
    let mut descriptor = None;
    let (link, proxy, counted_channel) = match mode {
        HelloMode::New => {
            let link: LinkId = rand::random();
            let counted = core.admit_proxy(&verified.key)?;
            // Before the link exists: nothing would end one that gets no slot for its first channel.
            let counted_channel = admit_channel(counted.grant(), 0)?;
            let proxy = start_proxy(core, &hello.name, link, None, addr, (reserve()?, counted));
            if let Some(replaced) = core.find_link(hello.link) {
                proxy.inherit_settings(&replaced);
            }
            (link, proxy, counted_channel)
        }
        HelloMode::Join | HelloMode::Resume => {
            if mode == HelloMode::Join {
                descriptor = Some(reserve()?);
            }
            // The link existed when the handshake began, and may have ended since.
            let proxy = core.find_link(hello.link).ok_or(HandshakeError::UnknownLink)?;
            let exempt = proxy.replaceable_channels(mode == HelloMode::Resume);
            let counted_channel = admit_channel(proxy.grant(), exempt)?;
            (hello.link, proxy, counted_channel)
        }
    };
    // Held until the resumption is complete or has failed: further ones at the same time need a descriptor of their
    // own.
    let resumption = (mode == HelloMode::Resume).then(|| proxy.resumption.try_acquire());
    if matches!(resumption, Some(Err(_))) {
        descriptor = Some(reserve()?);
    }
    let allocated = proxy.allocate_channel(mode == HelloMode::Resume, counted_channel);
    let mut slot = allocated.ok_or(HandshakeError::TooManyChannels)?;
    slot.descriptor = descriptor;
    let ticket = {
        let mut tickets = proxy.tickets.lock();
        // Of two resumptions with the same ticket at the same time, the second fails here.
        let proved = tickets.find(epoch).filter(|&ticket| tickets.confirm(ticket));
        match (mode, proved) {
            (HelloMode::New, _) => tickets.current(),
            (HelloMode::Join, Some(proved)) => proved,
            (HelloMode::Resume, Some(_)) => tickets.issue_next(),
            (HelloMode::Join | HelloMode::Resume, None) => return Err(HandshakeError::UnknownLink.into()),
        }
    };
    // TLS detects corruption in transit.
    let checksums = if negotiation.is_tls() { 0 } else { CHECKSUMS };
    let features = hello.features & (checksums | PUBLIC_ADDRESS | USER_NETWORKS | SERVICES);
    let welcome = welcome(core, link, slot.id.index, features, mode, ticket);
    negotiation.send_frame(&verified.welcome(welcome)).await?;
    negotiation.set_features(features);
    if mode == HelloMode::Resume {
        // Waits for the channel's first ping, which proves that the proxy has received WELCOME and its new ticket.
        // Until then WELCOME may be lost, so the old ticket and the old channels must stay valid.
        negotiation.wait_for_data().await?;
        if !proxy.tickets.lock().confirm(ticket) {
            return Err(HandshakeError::UnknownLink.into());
        }
        proxy.link.remove_all_channels();
    }
    Ok(slot)
}

impl Core {
    /// Counts one more proxy of the token with `key`.
    fn admit_proxy(&self, key: &TokenKey) -> Result<GrantUse, HandshakeError> {
        // Revoked since the proof was verified.
        let grant = self.grants.load().find(key).ok_or(HandshakeError::WrongToken)?;
        let expired = |refusal| not_permitted(RefusalCode::TokenExpired, &refusal);
        grant.check_valid(self.clock.epoch_ms()).map_err(expired)?;
        self.admit_proxy_of(&grant).map_err(|refusal| not_permitted(RefusalCode::TooManyProxies, &refusal))
    }

    /// Counts one more proxy of `grant`. A link whose stream numbers run out does not count beside the one that
    /// replaces it.
    pub(super) fn admit_proxy_of(&self, grant: &Arc<Grant>) -> Result<GrantUse, GrantRefusal> {
        grant.admit(Resource::Proxies, 0).or_else(|_| {
            let exempt = self.proxies_of(grant).iter().filter(|proxy| proxy.is_being_replaced()).count();
            grant.admit(Resource::Proxies, exempt)
        })
    }
}

/// Counts one more channel of a proxy. `exempt` of those of its token do not count, because it replaces them.
fn admit_channel(grant: &Arc<Grant>, exempt: usize) -> Result<GrantUse, HandshakeError> {
    let too_many = |refusal| not_permitted(RefusalCode::TooManyChannels, &refusal);
    grant.admit(Resource::Channels, exempt).map_err(too_many)
}

/// Returns the error for a proxy whose token is right, and does not permit what it asks for.
fn not_permitted(code: RefusalCode, refusal: &GrantRefusal) -> HandshakeError {
    HandshakeError::NotPermitted { code, reason: refusal.to_string() }
}

/// Returns the WELCOME for channel number `channel` of `link`. Its HMAC is added when it is sent.
fn welcome(
    core: &Core,
    link: LinkId,
    channel: u16,
    features: u32,
    mode: HelloMode,
    ticket: IssuedTicket,
) -> Welcome {
    let mux = MuxConfig::default();
    Welcome {
        link,
        epoch: ticket.epoch,
        channel,
        features,
        max_streams: u32::try_from(mux.max_streams.min(core.config().max_streams)).unwrap_or(u32::MAX),
        first_window: core.config().initial_window,
        grace_ms: millis(core.config().grace_period),
        // A proxy that joins has just proved that it knows the secret.
        resume_secret: (mode != HelloMode::Join).then_some(ticket.secret),
        mac: [0; 32],
    }
}

/// Returns a duration in milliseconds, at most `u32::MAX`, which is the largest value of the field in a frame.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
