//! A flood is reported in part and counted in full.

use super::*;
use crate::{
    ids::{ChannelId, ProxyId, StreamKey, UserChannelId},
    telemetry::{DisconnectReason, EndReason},
};

#[test]
fn a_flood_of_events_is_emitted_in_part_and_counted_in_full() {
    let (throttle, now) = (Throttle::new(7), Instant::now());
    let emitted = (0..1000).filter(|_| throttle.admit(now).is_some()).count();
    assert_eq!(emitted, 7);
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(1000 - 7));
    assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(0));
}

/// Each kind has its own maximum, so that a flood of one hides no other.
#[test]
fn every_kind_of_event_that_users_and_peers_cause_is_limited() {
    let (throttles, proxy, user) = (EventThrottles::default(), ProxyId(1), UserChannelId::new(7));
    let (addr, ip) = ("192.0.2.1:80".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let (channel, key) = (ChannelId { proxy, index: 1 }, StreamKey::new(user, 1));
    let service = || "8080".parse().unwrap();
    let (name, text, reason) = (|| "lab".to_owned(), || "lab".into(), || "none".to_owned());
    let ended = EventKind::StreamEnded {
        key,
        reason: EndReason::Finished,
        shortfall: None,
        down: 0,
        up: 0,
        addr,
        service: service(),
        proxy: None,
        proxy_name: None,
        lasted: Duration::ZERO,
        time_to_first_byte: None,
        content: None,
    };
    let failed = CommandOutcome::Failed(reason());
    for (max, kind) in [
        (100, EventKind::UserRejected { addr, service: service(), reason: reason() }),
        (100, EventKind::HandshakeFailed { addr, reason: reason(), is_refusal: false }),
        (100, EventKind::UnknownStream { channel, key }),
        (100, EventKind::RegistrationRefused { proxy, name: text(), reason: reason() }),
        (100, EventKind::ChannelsPlanned { proxy, plan: reason() }),
        (100, EventKind::AcceptFailed { listener: addr, reason: reason() }),
        (
            100,
            EventKind::OperatorActed { what: reason(), by: crate::ids::Operator::Cockpit, outcome: failed },
        ),
        (500, EventKind::UserJoined { user, addr: ip, service: service() }),
        (500, EventKind::UserLeft { user }),
        (500, EventKind::StreamOpened { key, addr, service: service() }),
        (500, EventKind::StreamAssigned { key, proxy, name: text() }),
        (500, EventKind::ProxyConnected { proxy, name: name(), addr }),
        (500, EventKind::ProxyDisconnected { proxy, name: name(), reason: DisconnectReason::Closed }),
        (500, EventKind::ChannelConnected { channel, addr }),
        (500, EventKind::ChannelDisconnected { channel, reason: DisconnectReason::Closed }),
        (500, EventKind::ServiceOpened { service: service() }),
        (500, EventKind::ServiceClosed { service: service() }),
        (500, EventKind::ProxyRegistered { proxy, name: name(), addr, service: service() }),
        (500, EventKind::ProxyDeregistered { proxy, name: name(), service: service() }),
        (500, EventKind::GracePeriodStarted { proxy, grace: Duration::ZERO }),
        (500, EventKind::ProxyResumed { proxy, after: Duration::ZERO }),
        (1000, ended),
    ] {
        let (throttle, now) = (throttles.of(&kind).unwrap(), Instant::now());
        let emitted = (0..2000).filter(|_| throttle.admit(now).is_some()).count();
        assert_eq!(emitted, max, "{kind:?}");
    }
}
