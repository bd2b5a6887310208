//! The spans of which the timeline of a link consists: in which condition the link was, and how that ended.

use std::time::Instant;

use crate::ids::ProxyId;

/// A part of the timeline of a link (the session of a proxy over all its channels) during which its condition did not
/// change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSpan {
    /// The proxy whose link (its session over all its channels) the span is about.
    pub(super) proxy: ProxyId,
    /// The condition that the link had during the span.
    pub(crate) condition: LinkCondition,
    /// When the span began.
    pub(crate) from: Instant,
    /// Whether the same link was in another condition before; otherwise the link was established at the start of this
    /// span.
    pub(crate) continues_previous: bool,
    /// When and how the span ended; `None` while it lasts.
    pub(crate) end: Option<LinkSpanEnd>,
}

/// When a span of a link's timeline ended, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSpanEnd {
    /// When the span ended.
    pub(crate) at: Instant,
    /// Whether the link changed its condition, was closed in order or was lost.
    pub(crate) outcome: LinkOutcome,
}

/// How a span of a link's timeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkOutcome {
    /// The link still exists, in another condition.
    ConditionChanged,
    /// The proxy announced its departure (GOAWAY), or the server shut down.
    Closed,
    /// The proxy disconnected for any other reason.
    Lost,
}

/// The condition of a link: the session of a proxy over all its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkCondition {
    /// The proxy is assigned new streams.
    Up,
    /// The proxy is assigned no new streams.
    Draining,
    /// All channels are lost; the streams wait for the proxy to reconnect.
    GracePeriod,
}
