//! A connection that has completed its handshake, until it ends.

use std::{net::SocketAddr, sync::Arc};

use super::{core::Core, proxy::ChannelSlot};
use crate::{
    ids::ChannelId,
    link::{Driver, NewChannel},
    net::Negotiation,
    telemetry::ChannelFormat,
    wire::text::FieldCount,
};

/// A connection that has completed its handshake and becomes a channel of its proxy's link.
pub(super) struct AdmittedChannel {
    /// The proxy and the channel's number; freed when the channel ends.
    slot: ChannelSlot,
    /// The connection, with the bytes that were received after the handshake.
    negotiation: Negotiation,
    /// The number of fields in each line of a text-format peer; `None` for the binary format.
    text: Option<FieldCount>,
}

impl AdmittedChannel {
    /// Creates the channel from its slot and its connection. `text` is `None` for the binary format.
    pub(super) fn new(slot: ChannelSlot, negotiation: Negotiation, text: Option<FieldCount>) -> Self {
        Self { slot, negotiation, text }
    }

    /// Returns the channel's id.
    pub(super) fn id(&self) -> ChannelId {
        self.slot.id
    }

    /// Drives the channel until it ends, and reports its beginning and its end. Runs on the worker thread that is to
    /// own the socket.
    pub(super) async fn run(self, core: &Arc<Core>, addr: SocketAddr) {
        let Self { slot, negotiation, text } = self;
        let rtt = negotiation.rtt();
        let (socket, read_ahead, codec) = negotiation.into_parts();
        // Registers the socket with this thread's runtime; the handshake ran on another.
        let socket = match socket.move_to_current_runtime() {
            Ok(socket) => socket,
            Err(error) => return core.report_handshake_failure(addr, &error.to_string(), false),
        };
        let format = match text {
            None => ChannelFormat::Binary,
            Some(FieldCount::Four) => ChannelFormat::Text,
            Some(FieldCount::Three) => ChannelFormat::ThreeFieldText,
        };
        let guard = core.telemetry.channel_up(slot.id, addr, format);
        if let Some(name) = socket.congestion_control() {
            guard.stats().set_congestion_control(&name);
        }
        slot.set_stats(guard.stats());
        let stats = Some(guard.stats().clone());
        let channel =
            NewChannel { id: slot.id.index, socket, rtt, read_ahead, codec, text, stats, registration: None };
        let reason = Driver::attach_and_run(&slot.proxy.link, channel).await;
        guard.set_reason(slot.proxy.record_channel_end(reason));
    }
}
