//! The timelines of links: when which proxy was up, draining or reconnecting.

use std::collections::VecDeque;

use super::link_span::{LinkSpan, LinkSpanEnd};
use crate::ids::ProxyId;

/// The largest number of timelines of links.
const MAX_LINKS: usize = 64;
/// The largest number of spans in the timeline of one link; the oldest are dropped.
const MAX_SPANS_PER_LINK: usize = 32;

/// The timeline of a link: spans in which its condition (up, draining, reconnecting) did not change, the oldest first.
#[derive(Debug, Clone)]
pub(crate) struct LinkTimeline {
    /// The name of the proxy, or the id of one without a name.
    pub(crate) name: String,
    /// The spans, at most [`MAX_SPANS_PER_LINK`].
    pub(crate) spans: VecDeque<LinkSpan>,
}

impl LinkTimeline {
    /// Returns the proxy whose link the newest span is about.
    fn proxy(&self) -> Option<ProxyId> {
        self.spans.back().map(|span| span.proxy)
    }

    /// Returns whether the newest span has not ended: the proxy is connected.
    fn is_open(&self) -> bool {
        self.spans.back().is_some_and(|span| span.end.is_none())
    }
}

/// The timelines of all links, in the order in which they began. A proxy that connects again continues the timeline of
/// its name; proxies of one name that are connected at the same time have one each.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkTimelines(Vec<LinkTimeline>);

impl LinkTimelines {
    /// Returns all timelines, in the order in which they began.
    pub(crate) fn all(&self) -> &[LinkTimeline] {
        &self.0
    }

    /// Returns the name of a timeline: that of its proxy, with the id of the newest one where two have the same name.
    pub(crate) fn label(&self, link: &LinkTimeline) -> String {
        let is_shared = self.0.iter().filter(|other| other.name == link.name).count() > 1;
        match link.proxy() {
            Some(proxy) if is_shared => format!("{} {proxy}", link.name),
            _ => link.name.clone(),
        }
    }

    /// Appends a span to the timeline that it continues, or begins a new one. A timeline of the same name is continued
    /// unless another proxy has it. Drops the oldest timeline or span if there are too many.
    pub(super) fn open(&mut self, name: String, span: LinkSpan) {
        let continues = |link: &LinkTimeline| link.name == name && !link.is_open();
        let own = self.0.iter().position(|link| link.proxy() == Some(span.proxy));
        let at = own.or_else(|| self.0.iter().position(continues)).unwrap_or_else(|| {
            if self.0.len() == MAX_LINKS {
                self.0.remove(0);
            }
            self.0.push(LinkTimeline { name, spans: VecDeque::new() });
            self.0.len() - 1
        });
        let spans = &mut self.0[at].spans;
        if spans.len() == MAX_SPANS_PER_LINK {
            spans.pop_front();
        }
        spans.push_back(span);
    }

    /// Returns the span of this proxy that has not ended, if there is one.
    pub(super) fn open_span(&mut self, id: ProxyId) -> Option<&mut LinkSpan> {
        let mut spans = self.0.iter_mut().flat_map(|link| &mut link.spans);
        spans.find(|span| span.proxy == id && span.end.is_none())
    }

    /// Ends the present span of this proxy in its timeline, if there is one.
    pub(super) fn close(&mut self, id: ProxyId, end: LinkSpanEnd) {
        if let Some(span) = self.open_span(id) {
            span.end = Some(end);
        }
    }
}

#[cfg(test)]
mod tests;
