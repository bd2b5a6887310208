//! Sockets: listeners, socket options, connecting, `TCP_INFO`, pooled read buffers, TLS sessions, and the negotiation
//! with which a channel begins. Knows nothing of links, streams or the multiplexer's state.

mod buffer_pool;
mod congestion_control;
mod connector;
mod foreign_protocol;
mod happy_eyeballs;
mod inherited;
mod listener;
mod name_cache;
mod negotiation;
mod nonblocking;
mod proxy_header;
#[cfg(target_os = "linux")]
mod retransmission;
#[cfg(target_os = "linux")]
mod reuse_port;
mod send_queue;
mod socket;
#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
mod tcp_info;
mod tls_handshake;
mod tls_session;
mod vectored;

pub use buffer_pool::BufferPool;
pub use congestion_control::{CongestionControlError, check_congestion_control};
pub use connector::{ConnectError, ConnectPolicy, Connector};
pub use foreign_protocol::ForeignProtocol;
pub use happy_eyeballs::FailedAddress;
pub use inherited::inherited_listeners;
pub use listener::Listener;
pub use negotiation::{DetectedFormat, Negotiation, NegotiationError};
pub(crate) use nonblocking::{try_read, try_write};
pub(crate) use proxy_header::{ReadHeaderError, has_data, read_proxy_header};
pub(crate) use send_queue::SendQueue;
pub use socket::ChannelSocket;
pub(crate) use socket::{
    addresses, disable_reset_on_close, fix_receive_buffer, local_address, refuse_self_connection,
    release_receive_buffer, set_notsent_lowat,
};
pub(crate) use vectored::{MAX_SLICES, advance, write_vectored_once};
