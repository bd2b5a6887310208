//! Several services of one proxy: each has its own port, target and answer, and they change while streams are open.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    binary::{BinaryChannel, hello},
    client::{Fetched, download, is_refused},
    soon,
    target::{self, LOOPBACK, free_ports},
    tunnel::{RunningProxy, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig, ProxyFormat, ServiceConfig, ServicesError},
    proxy::ServedService,
    telemetry::{ChannelState, EventKind, ProxySnapshot},
    wire::{Frame, TunnelAction, TunnelMessage, binary::SERVICES},
};

/// A download that is still running when the services have changed.
const LONG_FILE: DemoFile = DemoFile { seed: 3, size: 6_000_000 };

/// Rate of the origin of [`LONG_FILE`] in bytes per second.
const RATE: u64 = 6_000_000;

/// Returns a service for `target` on this port and group.
fn service(key: &str, target: SocketAddr) -> ServiceConfig {
    ServiceConfig::new(key.parse().unwrap(), target.to_string())
}

/// Starts a target that sends `name` to each user.
async fn named(name: &'static str) -> target::Target {
    target::serve_with(move |mut socket| async move { socket.write_all(name.as_bytes()).await }).await
}

/// Returns what a user of `public` receives until the FIN.
async fn answer(public: SocketAddr) -> String {
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let mut text = String::new();
    soon("an answer", user.read_to_string(&mut text)).await.unwrap();
    text
}

/// Returns the public address of a service.
fn public(served: &ServedService) -> SocketAddr {
    SocketAddr::new(LOOPBACK.ip(), served.service.port)
}

/// Starts a proxy with these services, and waits until all are served.
async fn proxy(tunnel: &Tunnel, services: Vec<ServiceConfig>) -> (RunningProxy, Vec<ServedService>) {
    let count = services.len();
    let config = ProxyConfig { services, ..tunnel.proxy_config(LOOPBACK) };
    let proxy = RunningProxy::start(config, tunnel.token.clone());
    let served = proxy.serves_when("all services", |served| served.len() == count).await;
    (proxy, served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_of_a_proxy_has_its_own_target() {
    let tunnel = Tunnel::start().await;
    let targets = [named("first").await, named("second").await, named("third").await, named("fourth").await];
    let [port] = free_ports();
    let keys = ["0".to_owned(), format!("{port}:web"), "0".to_owned(), "0:web".to_owned()];
    let services = keys.iter().zip(&targets).map(|(key, target)| service(key, target.addr)).collect();
    let (proxy, served) = proxy(&tunnel, services).await;
    let snapshot = tunnel.until("one proxy", |snapshot| snapshot.proxies.len() == 1).await;
    assert_eq!(snapshot.proxies[0].services.len(), 4, "one link serves all");
    for (served, (target, name)) in
        served.iter().zip(targets.iter().zip(["first", "second", "third", "fourth"]))
    {
        assert_eq!(served.target, target.addr.to_string());
        assert_eq!(answer(public(served)).await, name);
    }
    assert_eq!(served[1].service.to_string(), format!("{port}:web"));
    proxy.stop().await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_service_is_reported_and_the_others_serve() {
    let tunnel = Tunnel::start().await;
    let target = named("served").await;
    let busy = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let busy_key = busy.local_addr().unwrap().port().to_string();
    let services =
        vec![service("22", target.addr), service("0", target.addr), service(&busy_key, target.addr)];
    let config = ProxyConfig { services, ..tunnel.proxy_config(LOOPBACK) };
    let proxy = RunningProxy::start(config, tunnel.token.clone());
    let served = proxy.serves_when("one service", |served| served.len() == 1).await;
    assert_eq!(answer(public(&served[0])).await, "served");
    for reason in ["port 22 is not allowed", "is in use on the server"] {
        let is_refusal = |event: &EventKind| matches!(event, EventKind::RegistrationRefused { reason: told, .. } if told.contains(reason));
        tunnel.event(reason, is_refusal).await;
    }
    // What may pass is asked for again, on the same link.
    drop(busy);
    let served = proxy.serves_when("the port that has become free", |served| served.len() == 2).await;
    assert_eq!(answer(public(&served[1])).await, "served");
    assert_eq!(tunnel.telemetry.snapshot().proxies.len(), 1);
    proxy.stop().await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_which_all_services_are_refused_for_good_gives_up() {
    let tunnel = Tunnel::start().await;
    let services = (20..25).map(|port: u16| service(&port.to_string(), LOOPBACK)).collect();
    let config = ProxyConfig { services, ..tunnel.proxy_config(LOOPBACK) };
    let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await.to_string();
    assert!(error.contains("refused all 5 services: "), "{error}");
    let first = "20:default: port 20 is not allowed: the server allows ports 1024-65535; ";
    assert!(error.contains(first) && error.ends_with("; and 2 more"), "{error}");
    tunnel.until("it has left", |snapshot| snapshot.proxies.is_empty()).await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_added_and_removed_while_downloads_run() {
    let tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_millis(100)).await;
    let origin = target::origin(RATE).await;
    let [first, second] = free_ports().map(|port| port.to_string());
    let (proxy, served) = proxy(&tunnel, vec![service(&first, origin.addr), service("0", origin.addr)]).await;
    let (removed, kept) = (public(&served[0]), public(&served[1]));
    let downloads = [download(removed, LONG_FILE), download(kept, LONG_FILE)];
    tunnel.flowing(2).await;

    let other = named("added").await;
    let changes = proxy.replace_services(vec![service("0", origin.addr), service(&second, other.addr)]);
    assert_eq!(changes.to_string(), "services added: 1, changed: 0, removed: 1");
    let is_done =
        |served: &[ServedService]| served.len() == 2 && served.iter().all(|served| public(served) != removed);
    let served = proxy.serves_when("the new list", is_done).await;
    assert_eq!(public(&served[0]), kept, "the port of an unchanged service stays");
    assert_eq!(answer(public(&served[1])).await, "added");
    tunnel
        .event("the removal", |event| {
            matches!(event, EventKind::ProxyDeregistered { service, .. } if service.port == removed.port())
        })
        .await;
    // The port is open, as after the end of its last proxy, and no proxy serves it.
    is_refused(removed).await;
    tunnel.until("the downloads run alone", |snapshot| snapshot.totals.streams_open == 2).await;

    // A service that returns is served again.
    let changes = proxy.replace_services(vec![service("0", origin.addr), service(&first, other.addr)]);
    assert_eq!(changes.to_string(), "services added: 1, changed: 0, removed: 1");
    let is_back = |served: &[ServedService]| served.iter().any(|served| public(served) == removed);
    proxy.serves_when("it is back", is_back).await;
    assert_eq!(answer(removed).await, "added", "with its new target");
    for download in downloads {
        assert_eq!(download.end("a download").await, Ok(Fetched::from(LONG_FILE)));
    }
    proxy.stop().await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_target_applies_to_new_streams() {
    let tunnel = Tunnel::start().await;
    let origin = target::origin(RATE).await;
    let (proxy, served) = proxy(&tunnel, vec![service("0", origin.addr)]).await;
    let address = public(&served[0]);
    let running = download(address, LONG_FILE);
    tunnel.flowing(1).await;
    let other = named("other").await;
    let changes = proxy.replace_services(vec![service("0", other.addr)]);
    assert_eq!(changes.to_string(), "services added: 0, changed: 1, removed: 0");
    let is_changed = |served: &[ServedService]| served[0].target == other.addr.to_string();
    let served = proxy.serves_when("the new target", is_changed).await;
    assert_eq!((public(&served[0]), &*answer(address).await), (address, "other"));
    assert_eq!(running.end("a download").await, Ok(Fetched::from(LONG_FILE)));
    proxy.stop().await;
    tunnel.end().await;
}

/// A stream of the text format does not say which port it is of: the users of the port before would reach the target
/// of another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_port_replaces_a_link_of_the_text_format() {
    let tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_millis(100)).await;
    let origin = target::origin(RATE).await;
    let [port] = free_ports();
    let services = vec![service(&port.to_string(), origin.addr)];
    let config = ProxyConfig { services, format: ProxyFormat::Text, ..tunnel.proxy_config(LOOPBACK) };
    let proxy = RunningProxy::start(config, tunnel.token.clone());
    let former = public(&proxy.serves_when("the service", |served| served.len() == 1).await[0]);
    let running = download(former, LONG_FILE);
    tunnel.flowing(1).await;
    let other = named("other").await;
    let changes = proxy.replace_services(vec![service("0", other.addr)]);
    assert_eq!(changes.to_string(), "services added: 1, changed: 0, removed: 1");
    let is_replaced = |served: &[ServedService]| served.len() == 1 && public(&served[0]) != former;
    let served = proxy.serves_when("the other service", is_replaced).await;
    assert_eq!(answer(public(&served[0])).await, "other");
    let is_leaving =
        |proxy: &ProxySnapshot| proxy.channels.iter().any(|one| one.state == ChannelState::GoingAway);
    tunnel.until("no streams on the former link", |snapshot| snapshot.proxies.iter().any(is_leaving)).await;
    // A new user of the former port.
    is_refused(former).await;
    assert!(!running.has_ended(), "the download ended before the change");
    assert_eq!(running.end("a download").await, Ok(Fetched::from(LONG_FILE)));
    tunnel.until("the former link ends", |snapshot| snapshot.proxies.len() == 1).await;
    proxy.stop().await;
    tunnel.end().await;
}

/// The server admits the users that the current configuration names, also where only that has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_networks_apply_to_new_users() {
    let tunnel = Tunnel::start().await;
    let target = named("admitted").await;
    let (proxy, served) = proxy(&tunnel, vec![service("0", target.addr)]).await;
    let address = public(&served[0]);
    assert_eq!(answer(address).await, "admitted");
    let user_networks = "deny=127.0.0.1".parse().unwrap();
    proxy.replace_services(vec![ServiceConfig { user_networks, ..service("0", target.addr) }]);
    let becomes = async |admitted: bool| while is_admitted(address).await != admitted {};
    soon("users are refused", becomes(false)).await;
    proxy.replace_services(vec![service("0", target.addr)]);
    soon("users are admitted again", becomes(true)).await;
    proxy.stop().await;
    tunnel.end().await;
}

/// Returns whether a user receives something.
async fn is_admitted(public: SocketAddr) -> bool {
    match TcpStream::connect(public).await {
        Ok(mut user) => user.read(&mut [0]).await.is_ok_and(|read| read == 1),
        Err(_) => false,
    }
}

/// What changed while there was no server is registered with the next link; a service that any port was requested for
/// asks for the one that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_link_registers_the_services_of_now() {
    let mut tunnel = Tunnel::start().await;
    let (one, two, three) = (named("one").await, named("two").await, named("three").await);
    let (proxy, served) = proxy(&tunnel, vec![service("0", one.addr), service("0", two.addr)]).await;
    let ports: Vec<_> = served.iter().map(public).collect();
    tunnel.stop_server().await;
    proxy.replace_services(vec![service("0", two.addr), service("0:web", three.addr)]);
    let config = Tunnel::config(|config| (config.listen, config.bind) = (tunnel.addr, tunnel.addr.ip()));
    let mut other = Tunnel::bind(config, tunnel.token.clone()).await;
    let targets = [&two, &three].map(|target| target.addr.to_string());
    let is_served = |served: &[ServedService]| served.iter().map(|service| &service.target).eq(&targets);
    let served = proxy.serves_when("both services", is_served).await;
    assert_eq!(public(&served[0]), ports[1], "the port that it had");
    assert_eq!(answer(public(&served[0])).await, "two");
    assert_eq!(answer(public(&served[1])).await, "three");
    tunnel.hand_over(&mut other).await;
    proxy.stop().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_one_proxy_cannot_have_change_nothing() {
    let tunnel = Tunnel::start().await;
    let target = named("served").await;
    let (proxy, served) = proxy(&tunnel, vec![service("0", target.addr)]).await;
    assert_eq!(proxy.try_replace_services(Vec::new()), Err(ServicesError::None));
    let twice = vec![service("8080", target.addr), service("8080:web", target.addr)];
    assert_eq!(proxy.try_replace_services(twice), Err(ServicesError::SamePort(8080)));
    assert_eq!(answer(public(&served[0])).await, "served");
    proxy.stop().await;
    let text = ProxyConfig { format: ProxyFormat::Text, ..tunnel.proxy_config(target.addr) };
    let services = vec![service("0", target.addr), service("0", target.addr)];
    let error = text.check_services(&services).unwrap_err().to_string();
    assert!(error.starts_with("2 services with --format text"), "{error}");
    tunnel.end().await;
}

/// Requests are sent without waiting for answers, so that the start takes a few RTTs, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_services_are_registered_on_one_link() {
    let tunnel = Tunnel::start().await;
    let target = named("served").await;
    let services = vec![service("0", target.addr); 400];
    let (proxy, served) = proxy(&tunnel, services).await;
    let mut ports: Vec<_> = served.iter().map(|served| served.service.port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 400, "a port each");
    assert_eq!(answer(public(&served[399])).await, "served");
    assert_eq!(tunnel.telemetry.snapshot().services.len(), 400);
    // Half of them leave, and the others stay.
    proxy.replace_services(vec![service("0", target.addr); 200]);
    proxy.serves_when("half of them", |served| served.len() == 200).await;
    tunnel.until("the server knows", |snapshot| snapshot.proxies[0].services.len() == 200).await;
    proxy.stop().await;
    tunnel.end().await;
}

/// Sends a message of a proxy with numbered requests, and returns the answer of the server.
async fn ask(channel: &mut BinaryChannel, action: &str) -> (String, String) {
    channel.send([Frame::Message(TunnelMessage::control(action.parse().unwrap(), ""))]).await;
    loop {
        if let Frame::Message(TunnelMessage { key: None, action, data }) = channel.hear_other().await {
            return (action.to_string(), String::from_utf8(data.to_vec()).unwrap());
        }
    }
}

/// An answer is lost with its channel, so that the proxy repeats the request: another port would be one that it knows
/// nothing of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_for_any_port_is_granted_once() {
    let tunnel = Tunnel::with(|config| config.grace_period = Duration::ZERO).await;
    let hello = underpass::wire::Hello { features: SERVICES, ..hello() };
    let (mut channel, welcome) =
        BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello, None).await.unwrap();
    assert_eq!(welcome.features, SERVICES);
    let (action, granted) = ask(&mut channel, "ADDPROXY:0:::::7").await;
    assert_eq!(action, TunnelAction::Granted(7).to_string());
    assert_eq!(ask(&mut channel, "ADDPROXY:0:::::7").await, (action.clone(), granted.clone()));
    let (_, other) = ask(&mut channel, "ADDPROXY:0:::::8").await;
    assert_ne!(other, granted);
    assert_eq!(ask(&mut channel, "ADDPROXY:22:::::9").await.0, "ERROR:9");
    let port = granted.split(':').next().unwrap();
    assert_eq!(
        ask(&mut channel, &format!("REMOVEPROXY:10:{port}")).await,
        ("RESPONSE:10".into(), String::new())
    );
    // Removed already, or never registered.
    for port in [port, "1"] {
        assert_eq!(ask(&mut channel, &format!("REMOVEPROXY:11:{port}")).await.0, "RESPONSE:11");
    }
    let snapshot = tunnel.telemetry.snapshot();
    let services: Vec<_> = snapshot.proxies[0].services.iter().map(ToString::to_string).collect();
    assert_eq!(services, [other]);
    // The number is free again.
    assert_eq!(ask(&mut channel, "ADDPROXY:0:::::7").await.0, "RESPONSE:7");
    drop(channel);
    tunnel.until("it has left", |snapshot| snapshot.proxies.is_empty()).await;
    tunnel.end().await;
}

/// A stream of a service that was removed a moment ago is offered to another proxy, or its user waits for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_port_that_a_proxy_does_not_serve_any_more_goes_to_another_one() {
    let mut tunnel = Tunnel::with(|config| config.grace_period = Duration::ZERO).await;
    let (mut channel, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let open = channel.opened().await;
    let target = named("other").await;
    let config = tunnel.proxy_config(target.addr).with_service(public.port().to_string().parse().unwrap());
    let config = ProxyConfig { channels: ChannelCount::Fixed(1), ..config };
    channel.during(tunnel.proxy_with(config)).await;
    let code = underpass::wire::ResetCode::NotServed;
    channel.send([Frame::Reset { stream: open.stream, code, final_size: 0 }]).await;
    let mut text = String::new();
    channel.during(async { user.read_to_string(&mut text).await.unwrap() }).await;
    assert_eq!(text, "other");
    drop((channel, user));
    tunnel.until("it has left", |snapshot| snapshot.proxies.len() == 1).await;
    tunnel.end().await;
}
