//! A machine that has run out of something, and an operator in a hurry.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
};
use underpass::{config::ProxyConfig, wire::handshake::Token};

use crate::{
    SECOND, serves_a_fresh_user,
    support::{
        process::{Process, Signal},
        soon,
        target::{self, LOOPBACK, Target},
        tunnel::RunningProxy,
    },
};

const SERVER: &str = "server --listen 127.0.0.1:0 --bind 127.0.0.1 --token t --no-tui";

/// The real program under a shell, which may take something away from it first.
fn program(shell: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", shell]).env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1");
    Process::spawn(command)
}

/// An honest proxy for an echo; its public address.
async fn proxy(addr: &str) -> (RunningProxy, Target, SocketAddr) {
    let echo = target::echo().await;
    let config = ProxyConfig::new(addr, "0".parse().unwrap(), echo.addr.to_string());
    let mut proxy = RunningProxy::start(config, Token::new("t"));
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
    (proxy, echo, public)
}

async fn echoes(user: &mut TcpStream, word: &[u8]) {
    user.write_all(word).await.unwrap();
    soon("an echo", user.read_exact(&mut vec![0; word.len()])).await.unwrap();
}

/// The real program with few descriptors: it pauses instead of spinning or dying, what is open goes on, and with
/// descriptors free again it takes users as before.
#[tokio::test]
async fn without_descriptors_the_server_pauses_accepting() {
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!("ulimit -n 48 && exec '{binary}' {SERVER}"));
    let line = process.line("listening for proxies on ").await;
    let (proxy, _echo, public) = proxy(line.rsplit(' ').next().unwrap()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    echoes(&mut early, b"early").await;

    // The kernel takes them for the server, which has no descriptors for all of them.
    let mut users = Vec::new();
    for _ in 0..80 {
        users.push(TcpStream::connect(public).await.unwrap());
    }
    process.line(&format!("cannot accept on {public}: ")).await;
    let begin = Instant::now();
    process.line("cannot accept").await;
    process.line("cannot accept").await;
    let failures = |process: &Process| process.output().matches("cannot accept").count();
    echoes(&mut early, b"still").await;
    // The pauses double from 10 ms: a dozen attempts would take more than three seconds.
    tokio::time::sleep_until((begin + 2 * SECOND).into()).await;
    assert!(failures(&process) < 12, "{}", process.output());
    drop(users);
    serves_a_fresh_user(public).await;
    drop(early);
    proxy.stop().await;
}

/// What the log goes to is full. The tunnel carries what it carries, and takes whom it takes.
#[tokio::test]
async fn a_full_log_disk_does_not_affect_traffic() {
    let binary = env!("CARGO_BIN_EXE_underpass");
    // The port has to be known beforehand: there is no line to read it from.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = SERVER.replace("127.0.0.1:0", &free.to_string());
    let mut process = program(&format!("exec '{binary}' {server} --log trace 2>/dev/full"));
    let (proxy, _echo, public) = proxy(&free.to_string()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    for _ in 0..200 {
        echoes(&mut early, b"early").await;
        serves_a_fresh_user(public).await;
    }
    drop(early);
    proxy.stop().await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit_within(15 * SECOND).await.code(), Some(0), "{}", process.output());
}

/// The wall clock jumps by a year each second. Nothing but the log goes by it: keepalives, deadlines and the lingering of
/// users are measured by another clock, which nobody can set.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn wall_clock_jumps_affect_the_log_only() {
    let library = format!("{}/clock.so", env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/clock.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, source]).status().await;
    assert!(compiled.unwrap().success(), "what links this test compiles C too");
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!("LD_PRELOAD='{library}' exec '{binary}' {SERVER}"));
    let line = process.line("listening for proxies on ").await;
    let (proxy, _echo, public) = proxy(line.rsplit(' ').next().unwrap()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    let begin = Instant::now();
    // Longer than a proxy is silent, and than a user is remembered.
    while begin.elapsed() < 7 * SECOND {
        echoes(&mut early, b"early").await;
        serves_a_fresh_user(public).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(early);
    // It fired: the log has been in two years, and back again.
    let output = process.output();
    let years: Vec<_> =
        output.lines().filter(|line| line.contains("lifecycle: ")).map(|line| &line[..4]).collect();
    assert!(years.windows(2).filter(|pair| pair[0] > pair[1]).count() >= 2, "{output}");
    assert!(!output.contains("is gone"), "{output}");
    proxy.stop().await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit_within(15 * SECOND).await.code(), Some(0), "{}", process.output());
}

/// Users come, carry and go while the server is told to end, and told again: it ends, at once and in order, and for
/// nobody is that a clean end who had not all.
#[tokio::test]
async fn two_sigterms_under_load_end_the_server_in_order() {
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!("exec '{binary}' {SERVER} --drain 60"));
    let line = process.line("listening for proxies on ").await;
    let (_proxy, _echo, public) = proxy(line.rsplit(' ').next().unwrap()).await;
    // Some stay.
    let mut stay = JoinSet::new();
    for _ in 0..100 {
        let mut user = TcpStream::connect(public).await.unwrap();
        echoes(&mut user, b"here").await;
        stay.spawn(async move {
            let mut got = Vec::new();
            user.read_to_end(&mut got).await.map(|_| got)
        });
    }
    // Some come and go for as long as anybody is let in.
    let mut come_and_go = JoinSet::new();
    for _ in 0..20 {
        come_and_go.spawn(async move {
            let mut served = 0u32;
            while let Ok(mut user) = TcpStream::connect(public).await {
                let mut got = Vec::new();
                let carried = async {
                    user.write_all(b"passing").await?;
                    user.shutdown().await?;
                    user.read_to_end(&mut got).await
                };
                match soon("an end", carried).await {
                    // All or an error.
                    Ok(_) => assert_eq!(got, b"passing"),
                    Err(_) => break,
                }
                served += 1;
            }
            served
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal(Signal::Term).await;
    process.line("draining, ").await;
    let begin = Instant::now();
    process.signal(Signal::Term).await;
    assert_eq!(process.exit_within(20 * SECOND).await.code(), Some(0), "{}", process.output());
    println!("ended after {:?}", begin.elapsed());
    let served: u32 = soon("those who passed", come_and_go.join_all()).await.into_iter().sum();
    assert!(served > 20, "{served} were served");
    for stayed in soon("those who stayed", stay.join_all()).await {
        assert!(stayed.is_err(), "a clean end: {stayed:?}");
    }
    assert!(process.output().contains("streams cut off: "), "{}", process.output());
}
