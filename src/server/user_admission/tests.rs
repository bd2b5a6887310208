//! Each limit refuses what is beyond it and nothing else, and what is admitted is uncounted at its end.

use std::net::Ipv4Addr;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    ids::Policy,
    link::{RateLimit, RateLimitCount},
    server::proxy::RemoteProxy,
    telemetry::Telemetry,
};

/// Returns a service without proxies.
fn service(port: u16) -> Arc<Service<RemoteProxy>> {
    let guard = Telemetry::new().service_opened(port.to_string().parse().unwrap());
    let limit = RateLimit::new(&RateLimitCount::default());
    Service::new(guard, Policy::default(), limit, CancellationToken::new())
}

/// Returns the client address with this last byte.
fn client(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

/// Returns the admission control of a configuration.
fn admission(change: impl FnOnce(&mut ServerConfig)) -> Arc<UserAdmission> {
    let mut config = ServerConfig { max_streams: 8, ..ServerConfig::default() };
    change(&mut config);
    UserAdmission::new(&config)
}

#[test]
fn an_address_gets_half_of_all_connections_by_default() {
    let (admission, service, now) = (admission(|_| {}), service(1), Instant::now());
    let admit = |n| admission.admit(&service, client(n), now);
    let mut first: Vec<_> = (0..4).map(|_| admit(1).unwrap()).collect();
    assert_eq!(admit(1).unwrap_err(), UserRefusal::Address(client(1).into(), 4));
    let _other = admit(2).unwrap();
    first.pop();
    first.push(admit(1).unwrap());
    drop(first);
    assert_eq!(admission.admitted(), 1);
    assert_eq!(admission.addresses.lock().len(), 1);
}

#[test]
fn a_network_of_ipv6_counts_as_one_address() {
    let (admission, service, now) = (admission(|_| {}), service(1), Instant::now());
    let admit = |addr: &str| admission.admit(&service, addr.parse().unwrap(), now);
    let _network: Vec<_> = (1..=4).map(|n| admit(&format!("2001:db8::{n}")).unwrap()).collect();
    let refusal = admit("2001:db8::ffff:0:0:1").unwrap_err();
    assert!(refusal.to_string().starts_with("2001:db8::/64 has its maximum of 4"), "{refusal}");
    assert!(admit("2001:db8:0:1::1").is_ok());
    assert!(admit("::ffff:192.0.2.1").is_ok());
}

#[test]
fn a_service_leaves_a_quarter_of_all_connections_to_the_others() {
    let (admission, service, other, now) = (admission(|_| {}), service(1), service(2), Instant::now());
    let mut open: Vec<_> = (0..6).map(|n| admission.admit(&service, client(n), now).unwrap()).collect();
    assert_eq!(admission.admit(&service, client(9), now).unwrap_err(), UserRefusal::Service(6));
    open.extend((6..8).map(|n| admission.admit(&other, client(n), now).unwrap()));
    assert_eq!(admission.admit(&other, client(9), now).unwrap_err(), UserRefusal::Total(8));
    drop(open);
    assert!(admission.admit(&service, client(9), now).is_ok());
    assert!(admission.addresses.lock().is_empty());
}

#[test]
fn an_address_that_opens_connections_too_fast_waits_until_its_rate_has_recovered() {
    let admission = admission(|config| config.max_connections_per_second = NonZeroU32::new(4));
    let (service, begin) = (service(1), Instant::now());
    let admit = |n, ms| admission.admit(&service, client(n), begin + Duration::from_millis(ms)).map(drop);
    for _ in 0..4 {
        admit(1, 0).unwrap();
    }
    let refusal = admit(1, 0).unwrap_err();
    assert!(refusal.to_string().contains("more than 4 connections per second"), "{refusal}");
    // Another address has a rate of its own, and a refused connection costs nothing.
    admit(2, 0).unwrap();
    admit(1, 249).unwrap_err();
    admit(1, 250).unwrap();
    admit(1, 250).unwrap_err();
    admission.remove_idle(begin + Duration::from_millis(300));
    assert_eq!(admission.addresses.lock().len(), 1);
    admission.remove_idle(begin + Duration::from_secs(3));
    assert!(admission.addresses.lock().is_empty());
}

#[test]
fn other_limits_apply_to_new_connections_and_open_ones_stay() {
    let limits = |max_streams, rate, deny: &str| ServerConfig {
        max_streams,
        max_streams_per_service: Some(100),
        max_connections_per_second: NonZeroU32::new(rate),
        user_networks: deny.parse().unwrap(),
        ..ServerConfig::default()
    };
    let admission = UserAdmission::new(&limits(8, 100, ""));
    let (service, now) = (service(1), Instant::now());
    let admit = |n| admission.admit(&service, client(n), now);
    let mut open: Vec<_> = (0..6).map(|n| admit(n).unwrap()).collect();
    admission.replace_limits(&limits(4, 100, "deny=192.0.2.7"));
    assert_eq!(admit(8).unwrap_err(), UserRefusal::Total(4));
    assert!(matches!(admit(7).unwrap_err(), UserRefusal::ServerNetworks(_)));
    assert_eq!(admission.admitted(), 6);
    open.truncate(3);
    open.push(admit(8).unwrap());
    assert_eq!(admit(9).unwrap_err(), UserRefusal::Total(4));
    admission.replace_limits(&limits(8, 1, ""));
    open.push(admit(7).unwrap());
    assert!(matches!(admit(7).unwrap_err(), UserRefusal::Rate(..)));
    drop(open);
    assert_eq!(admission.addresses.lock().len(), 8, "the rates of the addresses");
    admission.replace_limits(&limits(8, 0, ""));
    assert!(admission.addresses.lock().is_empty());
}
