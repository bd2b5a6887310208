//! Unit tests of repeated requests for any port.

use super::*;
use crate::{
    ids::Policy,
    link::{RateLimit, RateLimitCount},
    telemetry::Telemetry,
};
use tokio_util::sync::CancellationToken;

/// A member of a pool, of which nothing is asked here.
#[derive(Debug)]
struct Nobody;

impl crate::server::balance::Candidate for Nobody {
    fn is_available(&self) -> bool {
        false
    }
    fn weight(&self) -> u32 {
        1
    }
    fn load(&self) -> &crate::server::balance::ProxyLoad {
        unreachable!()
    }
}

fn service(telemetry: &Arc<Telemetry>, port: u16) -> Arc<Service<Nobody>> {
    let guard = telemetry.register_service(format!("{port}:default").parse().unwrap());
    let limit = RateLimit::new(&RateLimitCount::default());
    Service::new(guard, Policy::default(), limit, CancellationToken::new())
}

#[test]
fn a_repeated_request_finds_its_search_and_then_its_service() {
    let telemetry = Telemetry::new();
    let mut registrations = Registrations::default();
    assert!(registrations.find_any_port(7).is_none());
    registrations.begin_search(Some(7));
    assert!(matches!(registrations.find_any_port(7), Some(Repeated::Searching)));
    let found = service(&telemetry, 9000);
    registrations.insert(found.clone(), Some(7));
    registrations.end_search(Some(7));
    let Some(Repeated::Granted(again)) = registrations.find_any_port(7) else { panic!() };
    assert!(Arc::ptr_eq(&again, &found) && registrations.contains(&found));
    assert_eq!(registrations.count(), 1);
    // A search that finds nothing, and a service that is removed, leave nothing behind.
    registrations.begin_search(Some(8));
    assert_eq!(registrations.count(), 2);
    registrations.end_search(Some(8));
    assert!(registrations.remove(9000).is_some() && registrations.remove(9000).is_none());
    assert!(registrations.any_port_requests.is_empty());
    assert_eq!(registrations.count(), 0);
}
