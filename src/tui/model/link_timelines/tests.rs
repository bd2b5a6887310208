//! Unit tests of the timelines of links.

use std::time::Instant;

use super::*;
use crate::tui::model::link_span::{LinkCondition, LinkOutcome};

/// A proxy that connects and leaves again and again under a new name each time, and one under the same name.
#[test]
fn the_oldest_of_too_many_timelines_and_spans_are_dropped() {
    let (mut links, at) = (LinkTimelines::default(), Instant::now());
    let mut connect = |id, name: String| {
        let proxy = ProxyId(id);
        let condition = LinkCondition::Up;
        links.open(name, LinkSpan { proxy, condition, from: at, continues_previous: false, end: None });
        links.close(proxy, LinkSpanEnd { at, outcome: LinkOutcome::Lost });
    };
    for id in 1..=80 {
        connect(id, format!("proxy {id}"));
    }
    for id in 81..=180 {
        connect(id, "proxy 80".to_owned());
    }
    assert_eq!(links.all().len(), MAX_LINKS);
    assert_eq!(links.all()[0].name, format!("proxy {}", 81 - MAX_LINKS));
    let last = links.all().last().map(|link| (link.spans.len(), link.spans[0].proxy));
    assert_eq!(last, Some((MAX_SPANS_PER_LINK, ProxyId(149))));
}
