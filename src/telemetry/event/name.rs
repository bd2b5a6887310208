//! The name of each kind of event, for logs that machines read: that of its JSON.

use super::EventKind;

impl EventKind {
    /// Returns the name of the kind, for logs that machines read.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Listening { .. } => "listening",
            Self::ServiceOpened { .. } => "service_opened",
            Self::ServiceClosed { .. } => "service_closed",
            Self::ProxyConnected { .. } => "proxy_connected",
            Self::ProxyRegistered { .. } => "proxy_registered",
            Self::ProxyDeregistered { .. } => "proxy_deregistered",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::ProxyDisconnected { .. } => "proxy_disconnected",
            Self::GracePeriodStarted { .. } => "grace_period_started",
            Self::ProxyResumed { .. } => "proxy_resumed",
            Self::ChannelConnected { .. } => "channel_connected",
            Self::ChannelDisconnected { .. } => "channel_disconnected",
            Self::ServerConnected { .. } => "server_connected",
            Self::ServerDisconnected { .. } => "server_disconnected",
            Self::ChannelOpened { .. } => "channel_opened",
            Self::ChannelsPlanned { .. } => "channels_planned",
            Self::UserJoined { .. } => "user_joined",
            Self::UserLeft { .. } => "user_left",
            Self::StreamOpened { .. } => "stream_opened",
            Self::StreamAssigned { .. } => "stream_assigned",
            Self::StreamEnded { .. } => "stream_ended",
            Self::UserRejected { .. } => "user_rejected",
            Self::HandshakeFailed { .. } => "handshake_failed",
            Self::AddressBlocked { .. } => "address_blocked",
            Self::UnknownStream { .. } => "unknown_stream",
            Self::AcceptFailed { .. } => "accept_failed",
            Self::OperatorActed { .. } => "operator_acted",
            Self::TokensChanged { .. } => "tokens_changed",
            Self::TokensInvalid { .. } => "tokens_invalid",
            Self::TokenEnded { .. } => "token_ended",
            Self::TlsKeyChanged { .. } => "tls_key_changed",
            Self::RecordingFailed { .. } => "recording_failed",
            Self::RecordingContinued { .. } => "recording_continued",
            Self::DrainStarted { .. } => "drain_started",
            Self::DrainDeadlineSet { .. } => "drain_deadline_set",
            Self::TaskPanicked { .. } => "task_panicked",
        }
    }
}
