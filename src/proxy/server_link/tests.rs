//! Unit tests of the links that continue after GOAWAY.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    config::ProxyConfig,
    ids::StreamKey,
    link::{LinkEvents, Stream},
    mux::{ChannelWish, MuxConfig, Role},
    proxy::{registrations::Registrations, service_list::ServiceList},
    wire::{Open, TunnelMessage},
};

/// An owner that ignores all events.
struct Ignore;

impl LinkEvents for Ignore {
    fn stream_opened(&self, _: Stream, _: Open) {}
    fn message_received(&self, _: &Arc<Link>, _: u16, _: TunnelMessage) {}
    fn go_away_received(&self, _: ResetCode) {}
    fn channels_wanted(&self, _: ChannelWish) {}
    fn unknown_stream(&self, _: u16, _: StreamKey) {}
    fn detached(&self, _: Instant) {}
    fn resumed(&self, _: Duration) {}
}

fn link() -> Arc<ServerLink> {
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, Arc::new(Ignore));
    let config = Arc::new(ProxyConfig::new("server:7000", "1".parse().unwrap(), "target:80"));
    let list = ServiceList::new(config.services.clone());
    let registrations = Registrations::new(config, list, 0, false, Arc::default());
    Arc::new(ServerLink::new(link, None, Arc::default(), Arc::new(LinkServices::new(registrations))))
}

/// A server that answers each registration with GOAWAY must not make a proxy keep more and more links.
#[test]
fn the_oldest_of_too_many_old_links_is_closed() {
    let mut old = OldLinks::default();
    let links: Vec<_> = (0..MAX_OLD_LINKS + 3).map(|_| link()).collect();
    links.iter().for_each(|link| old.push(link.clone()));
    let ended: Vec<_> = links.iter().map(|link| link.has_ended()).collect();
    assert_eq!(ended, [[true; 3].as_slice(), &[false; MAX_OLD_LINKS]].concat());
    // Those that have ended by themselves make room.
    links[5].link.close(&DisconnectReason::Closed);
    old.push(link());
    assert_eq!((old.0.len(), links[3].has_ended()), (MAX_OLD_LINKS, false));
}

#[test]
fn the_first_goaway_of_each_meaning_is_logged() {
    let state = GoAwayState::default();
    assert!(state.record(Some(ResetCode::LinkReplaced)) && !state.is_received());
    assert!(!state.record(Some(ResetCode::LinkReplaced)));
    assert!(state.record(Some(ResetCode::Shutdown)) && state.is_received());
    assert!(!state.record(None));
}
