//! The server's side of the text format's handshake: AUTH with the token, where it is required, then ADDPROXY.

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;

use super::{
    admission::PendingConnection, admitted_channel::AdmittedChannel, core::Core, grants::Resource,
    other_protocol::OtherProtocol, proxy_task::start_proxy,
};
use crate::{
    config::TextProxies,
    net::{Negotiation, NegotiationError},
    telemetry::seconds,
    wire::{
        ErrorCode, TunnelAction, TunnelMessage,
        text::{self, FieldCount},
    },
};

/// Authenticates a proxy of the text format and creates its link, which has this one channel. If the proxy is refused
/// it receives an ERROR line with the reason before the connection closes.
pub(super) async fn admit_text(
    core: &Arc<Core>,
    mut pending: PendingConnection,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    let (mut line, fields, length) = match negotiation.peek_line().await {
        Err(error @ NegotiationError::Line(_)) => {
            let received = negotiation.received();
            let Some(other) = OtherProtocol::detect(received) else {
                // A line with separators comes from a text proxy, and has a defect.
                let first = received.split(|byte| *byte == b'\n').next().unwrap_or_default();
                return Err(if first.contains(&b'|') { error } else { NegotiationError::UnknownProtocol });
            };
            negotiation.send_and_close(other.answer().into()).await?;
            return Err(NegotiationError::OtherProtocol(other.name()));
        }
        first => first?,
    };
    pending.identify(None);
    let is_loopback = addr.ip().to_canonical().is_loopback();
    let is_allowed = match core.config().text_proxies {
        TextProxies::Off => false,
        TextProxies::Loopback => is_loopback,
        TextProxies::Anywhere => true,
    };
    if !is_allowed {
        let reason = "text-format proxies are not allowed from this address (server option --text)";
        return refuse(negotiation, fields, ErrorCode::TextNotAllowed, reason).await;
    }
    // The token is in the next line.
    if !(negotiation.is_tls() || is_loopback || core.config().insecure) {
        let reason = "text-format proxies need TLS from another machine (server option --insecure)";
        return refuse(negotiation, fields, ErrorCode::TextNotAllowed, reason).await;
    }
    let mut grant = core.grants.load().unlimited().clone();
    if line.action == TunnelAction::Auth {
        let found = core.grants.load().find_token(&line.data);
        let Some(found) = found else {
            // Not before the token is compared: who shares the address with a proxy must not keep it out.
            if let Err(time) = core.penalize_wrong_token(addr).await {
                let reason =
                    format!("this address is blocked for another {} because of wrong tokens", seconds(time));
                send_error(&mut negotiation, fields, ErrorCode::AddressBlocked, &reason).await?;
                return Err(NegotiationError::AddressBlocked);
            }
            return refuse(negotiation, fields, ErrorCode::WrongToken, "wrong token").await;
        };
        grant = found;
        negotiation.consume(length);
        (line, _, _) = negotiation.peek_line().await?;
    } else if !(core.config().text_without_token && is_loopback) {
        let reason = "not authenticated: send AUTH with the token first";
        return refuse(negotiation, fields, ErrorCode::NotAuthenticated, reason).await;
    }
    let TunnelAction::AddProxy(_) = line.action else {
        let reason = "not registered: send ADDPROXY with the port and group first";
        return refuse(negotiation, fields, ErrorCode::NotRegistered, reason).await;
    };
    let counted = grant
        .check_valid(core.clock.epoch_ms())
        .and_then(|()| Ok((core.admit_proxy_of(&grant)?, grant.admit(Resource::Channels, 0)?)));
    let (counted, counted_channel) = match counted {
        Ok(counted) => counted,
        Err(refusal) => {
            return refuse(negotiation, fields, ErrorCode::NotPermitted, &refusal.to_string()).await;
        }
    };
    // ADDPROXY stays in the buffer: the channel's driver processes it like every later line.
    let descriptor = match core.descriptors.reserve(addr.ip().into()) {
        Ok(descriptor) => descriptor,
        Err(full) => {
            let reason = full.to_string();
            send_error(&mut negotiation, fields, ErrorCode::ServerFull, &reason).await?;
            return Err(NegotiationError::NoDescriptor(reason));
        }
    };
    let proxy = start_proxy(core, "", rand::random(), Some(fields), addr, (descriptor, counted));
    let Some(slot) = proxy.allocate_channel(false, counted_channel) else {
        return Err(NegotiationError::Closed);
    };
    Ok(AdmittedChannel::new(slot, negotiation, Some(fields)))
}

/// Sends an ERROR line with `code` and `reason`, and returns the error that ends the handshake.
async fn refuse(
    mut negotiation: Negotiation,
    fields: FieldCount,
    code: ErrorCode,
    reason: &str,
) -> Result<AdmittedChannel, NegotiationError> {
    send_error(&mut negotiation, fields, code, reason).await?;
    Err(NegotiationError::TextRefused(reason.to_owned()))
}

/// Sends an ERROR line with `code` and `reason`, and closes the connection.
async fn send_error(
    negotiation: &mut Negotiation,
    fields: FieldCount,
    code: ErrorCode,
    reason: &str,
) -> Result<(), NegotiationError> {
    let mut line = BytesMut::new();
    text::encode_line(&TunnelMessage::error(code, reason), fields, &mut line);
    // A proxy usually sends ADDPROXY directly after AUTH. Closing while it is unread would reset the connection, and
    // the proxy might never read the reason; `send_and_close` reads it first.
    negotiation.send_and_close(line.freeze()).await
}
