//! Real programs with few file descriptors: users cannot take those that proxies need, nor those of other users.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;
use underpass::{
    config::{ChannelCount, ProxyConfig, ProxyFormat},
    telemetry::{EndReason, EventKind},
    wire::handshake::Token,
};

use crate::{
    SECOND,
    limits::{connect_from, served_from},
    machine::{SERVER, echoes, program, proxy},
    serves_a_fresh_user,
    support::{
        process::{Process, Signal, TOKEN},
        relay::{Relay, Wire},
        soon,
        target::{self, LOOPBACK},
        tunnel::{RunningProxy, Tunnel},
    },
};

/// Path of the program.
const BINARY: &str = env!("CARGO_BIN_EXE_underpass");

/// How many idle connections the hostile users open.
const CROWD: usize = 2000;

/// Sets the soft limit of a process, which has the hard limit of this one: it opens no descriptor of this number or
/// above.
fn limit_descriptors(process: &Process, soft: u64) {
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
    let limit = Rlimit { current: Some(soft), ..getrlimit(Resource::Nofile) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// Starts a server with a hard limit of 1,024 descriptors, and two proxies of one service, of which the channels of one
/// go through a relay. Opens [`CROWD`] idle connections from the addresses that `ip` returns for their numbers.
/// Meanwhile an open stream continues, its proxy resumes, and a proxy of another service registers and is served.
async fn endures_a_crowd(ip: impl Fn(usize) -> [u8; 4], option: &str) {
    _ = underpass::runtime::raise_descriptor_limit();
    let mut process = program(&format!("ulimit -n 1024 && exec '{BINARY}' {SERVER}"));
    process.line("descriptors: 1024, so at most 7").await;
    let addr = process.listens().await;
    let relay = Relay::to(addr).await;
    let (resuming, _echo, public) = proxy(&relay.addr.to_string()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    echoes(&mut early, b"early").await;

    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.extend(connect_from(ip(n), public).await);
    }
    process.line(option).await;
    echoes(&mut early, b"still").await;
    relay.set_all(Wire::Closed);
    process.line("reconnected after").await;
    echoes(&mut early, b"after the resumption").await;
    let (other, _other_echo, other_public) = proxy(&addr.to_string()).await;
    let mut others = Vec::new();
    for n in 0..100 {
        let user = served_from([127, 0, 3, n], other_public).await;
        others.push(user.unwrap_or_else(|| panic!("user {n} is refused\n{}", process.output())));
    }
    assert!(!process.output().contains("cannot accept"), "{}", process.output());
    drop((crowd, others));
    // The server notices the end of the crowd as it reads.
    let begin = Instant::now();
    while served_from([127, 0, 3, 1], public).await.is_none() {
        assert!(begin.elapsed() < 20 * SECOND, "{}", process.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(early);
    other.stop().await;
    resuming.stop().await;
}

#[tokio::test]
async fn one_address_cannot_exhaust_the_descriptors_of_a_server() {
    endures_a_crowd(|_| [127, 0, 0, 2], "--max-streams-per-address").await;
}

#[tokio::test]
async fn many_addresses_cannot_exhaust_the_descriptors_of_a_server() {
    endures_a_crowd(|n| [127, 0, 1, (n % 250 + 1) as u8], "--max-streams-per-service").await;
}

/// The maximum of streams that an operator asks for is lowered to what is possible, which is said with what to do.
#[tokio::test]
async fn a_maximum_that_the_descriptors_do_not_allow_is_lowered_and_said() {
    let mut process = program(&format!("ulimit -n 512 && exec '{BINARY}' {SERVER} --max-streams 5000"));
    let line = process.line("WARN").await;
    assert!(
        line.contains("instead of 5000 (option --max-streams)") && line.contains("LimitNOFILE="),
        "{line}"
    );
    let mut process = program(&format!("ulimit -n 30 && exec '{BINARY}' {SERVER}"));
    let line = process.line("file descriptors leaves none for streams").await;
    assert!(line.contains("ulimit -n"), "{line}");
    assert_eq!(process.exit().await.code(), Some(1), "{}", process.output());
}

/// A proxy with few descriptors refuses what is beyond them, and another one serves it. Its channels have their own: it
/// resumes.
#[tokio::test]
async fn a_proxy_keeps_descriptors_for_its_channels() {
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let relay = Relay::to(tunnel.addr).await;
    let token = tunnel.token.reveal().to_owned();
    let (server, to) = (relay.addr, echo.addr);
    let mut process = program(&format!(
        "ulimit -n 96 && exec '{BINARY}' proxy --plain --server {server} --port 0 --to {to} --token {token} --workers 1"
    ));
    process.line("descriptors: 96, so at most 49 streams instead of 50000").await;
    let public = SocketAddr::new(LOOPBACK.ip(), process.serves().await.port);
    let mut served = Vec::new();
    for _ in 0..60 {
        served.extend(served_from([127, 0, 0, 1], public).await);
    }
    assert_eq!(served.len(), 49);
    process.line("the maximum of 49 streams is open (option --max-streams)").await;
    relay.set_all(Wire::Closed);
    process.line("link to the server resumed").await;
    for user in &mut served {
        echoes(user, b"resumed").await;
    }
    tunnel.join(public, echo.addr, ProxyFormat::Binary).await;
    for _ in 0..20 {
        served.push(served_from([127, 0, 0, 1], public).await.unwrap());
    }
    drop(served);
    tunnel.until("all have left", |snapshot| snapshot.totals.streams_open == 0).await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit().await.code(), Some(0), "{}", process.output());
    tunnel.end().await;
}

/// A proxy without a descriptor for the target says so: it is not the target that cannot be reached. Another proxy
/// serves the user.
#[tokio::test]
async fn a_proxy_without_a_descriptor_does_not_blame_the_target() {
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let (server, to, token) = (tunnel.addr, echo.addr, tunnel.token.reveal().to_owned());
    let server = server.to_string();
    let to = to.to_string();
    let mut process = Process::underpass(&[
        "proxy", "--plain", "--server", &server, "--port", "0", "--to", &to, "--token", &token,
    ]);
    let public = SocketAddr::new(LOOPBACK.ip(), process.serves().await.port);
    tunnel.until("its channels", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    // Those of stdin, stdout and stderr are in use.
    limit_descriptors(&process, 3);
    assert!(served_from([127, 0, 0, 1], public).await.is_none());
    process.line("Too many open files").await;
    let is_end = |event: &EventKind| matches!(event, EventKind::StreamEnded { reason: EndReason::ProxyReset(why), .. } if why.contains("limit"));
    tunnel.event("the end of the stream", is_end).await;
    tunnel.join(public, echo.addr, ProxyFormat::Binary).await;
    for _ in 0..4 {
        serves_a_fresh_user(public).await;
    }
    process.signal(Signal::Term).await;
    assert_eq!(process.exit().await.code(), Some(0), "{}", process.output());
    tunnel.end().await;
}

/// Where descriptors run out all the same, the server pauses accepting instead of spinning or exiting, open streams
/// continue, and once descriptors are free it accepts users again.
#[tokio::test]
async fn without_descriptors_the_server_pauses_accepting() {
    let mut process = program(&format!("exec '{BINARY}' {SERVER}"));
    let addr = process.listens().await;
    let echo = target::echo().await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(1),
        ..ProxyConfig::new(addr.to_string(), "0".parse().unwrap(), echo.addr.to_string())
    };
    let mut proxy = RunningProxy::start(config, Token::new(TOKEN));
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
    let mut early = TcpStream::connect(public).await.unwrap();
    echoes(&mut early, b"early").await;
    limit_descriptors(&process, 48);

    // The kernel completes their handshakes, but the server has no descriptors to accept all of them.
    let mut users = Vec::new();
    for _ in 0..80 {
        users.push(TcpStream::connect(public).await.unwrap());
    }
    process.line(&format!("cannot accept connections on {public}: ")).await;
    let begin = Instant::now();
    process.line("cannot accept").await;
    process.line("cannot accept").await;
    let failures = |process: &Process| process.output().matches("cannot accept").count();
    echoes(&mut early, b"still").await;
    // The pauses between attempts double from 10 ms: a dozen attempts take more than three seconds.
    tokio::time::sleep_until((begin + 2 * SECOND).into()).await;
    assert!(failures(&process) < 12, "{}", process.output());
    drop(users);
    serves_a_fresh_user(public).await;
    drop(early);
    soon("the proxy stops", proxy.stop()).await;
}
