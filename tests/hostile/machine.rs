//! A machine without descriptors, without disk space or with a changing clock, and two SIGTERMs under load.

use std::{
    net::SocketAddr,
    process::Stdio,
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
        preload,
        process::{Process, Signal, TOKEN},
        soon,
        target::{self, LOOPBACK, Target},
        tunnel::RunningProxy,
    },
};

/// Command line of the server.
/// Its proxies here are in the process of the test, without TLS.
pub const SERVER: &str =
    "server --plain --listen 127.0.0.1:0 --bind 127.0.0.1 --token vK8dR2xQ9mWz4LpT7cYb --no-tui";

/// Runs the program under a shell, which can limit its resources first.
pub fn program(shell: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", shell]).env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1");
    Process::spawn(command)
}

/// Starts a conforming proxy for an echo. Returns its public address, too.
pub async fn proxy(addr: &str) -> (RunningProxy, Target, SocketAddr) {
    let echo = target::echo().await;
    let config = ProxyConfig::new(addr, "0".parse().unwrap(), echo.addr.to_string());
    let mut proxy = RunningProxy::start(config, Token::new(TOKEN));
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
    (proxy, echo, public)
}

/// Asserts that a user receives the echo of `word`.
pub async fn echoes(user: &mut TcpStream, word: &[u8]) {
    user.write_all(word).await.unwrap();
    soon("an echo", user.read_exact(&mut vec![0; word.len()])).await.unwrap();
}

/// The log is written to a full device. Streams continue and new users are served.
#[tokio::test]
async fn a_full_log_disk_does_not_affect_traffic() {
    let binary = env!("CARGO_BIN_EXE_underpass");
    // The port is chosen beforehand, because no log line can tell it.
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

/// Nothing reads the log, and its pipe is full. Streams continue, new users are served, and the end waits for a second
/// at most.
#[tokio::test]
async fn an_unread_log_does_not_affect_traffic() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = SERVER.replace("127.0.0.1:0", &free.to_string());
    let mut process = Command::new(env!("CARGO_BIN_EXE_underpass"));
    process.args(server.split(' ')).args(["--log", "trace"]).env_remove("UNDERPASS_TOKEN");
    process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = process.spawn().unwrap();
    let unread = process.stderr.take().unwrap();
    let (proxy, _echo, public) = proxy(&free.to_string()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    // Fill the pipe, of 64 KiB, and then the queue of the log, of 8,192 lines.
    for _ in 0..1000 {
        echoes(&mut early, b"early").await;
    }
    for _ in 0..200 {
        serves_a_fresh_user(public).await;
    }
    drop(early);
    proxy.stop().await;
    let pid = process.id().unwrap();
    let begin = Instant::now();
    assert!(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.unwrap().success());
    let status = tokio::time::timeout(15 * SECOND, process.wait()).await.unwrap().unwrap();
    println!("ended after {:?}: {status}", begin.elapsed());
    assert_eq!(status.code(), Some(0));
    drop(unread);
}

/// The disk of a recording is full, and has space again. The operator is told both within seconds, once, and users are
/// served meanwhile.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_of_a_recording_is_reported_and_overcome() {
    let dir = std::env::temp_dir().join(format!("up-recording-disk-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.display();
    // A disk of its own, which ends with the server.
    let disk = format!("mount -t tmpfs -o size=1m none '{path}'");
    let mut unshare = None;
    for flags in ["-m", "-rm"] {
        let trial = Command::new("unshare").args([flags, "sh", "-c", &disk]).stderr(Stdio::null()).status();
        if unshare.is_none() && trial.await.is_ok_and(|status| status.success()) {
            unshare = Some(format!("unshare {flags}"));
        }
    }
    let Some(unshare) = unshare else { return println!("skipped: no mount namespaces here") };
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!(
        "exec {unshare} sh -c \"{disk} && exec '{binary}' {SERVER} --record '{path}/recording'\""
    ));
    let addr = process.listens().await;
    process.line("underpass replay").await;
    let filler = format!("/proc/{}/root{path}/filler", process.pid());
    let full = std::fs::write(&filler, vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let line = process.line_within(15 * SECOND, "cannot write the recording in").await;
    assert!(line.contains("WARN") && line.contains("No space left on device"), "{line}");
    assert!(line.contains(&format!("{path}/recording")), "{line}");
    let (proxy, _echo, public) = proxy(&addr.to_string()).await;
    serves_a_fresh_user(public).await;
    std::fs::remove_file(&filler).unwrap();
    process.line_within(20 * SECOND, "continues; events missing in it").await;
    assert_eq!(process.output().matches("cannot write the recording").count(), 1, "{}", process.output());
    proxy.stop().await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit_within(15 * SECOND).await.code(), Some(0), "{}", process.output());
    _ = std::fs::remove_dir(&dir);
}

/// The wall clock jumps by a year each second. Only the log's timestamps use it: keepalives, timeouts and the linger
/// time of users use the monotonic clock.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn wall_clock_jumps_affect_the_log_only() {
    let library = preload::compile("hostile/clock.c");
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!("LD_PRELOAD='{library}' exec '{binary}' {SERVER}"));
    let addr = process.listens().await;
    let (proxy, _echo, public) = proxy(&addr.to_string()).await;
    let mut early = TcpStream::connect(public).await.unwrap();
    let begin = Instant::now();
    // Longer than the keepalive interval and than the linger time of users.
    while begin.elapsed() < 7 * SECOND {
        echoes(&mut early, b"early").await;
        serves_a_fresh_user(public).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(early);
    // The fault took effect: the log contains two years, and returns to the first.
    let output = process.output();
    let years: Vec<_> =
        output.lines().filter(|line| line.contains("lifecycle: ")).map(|line| &line[..4]).collect();
    assert!(years.windows(2).filter(|pair| pair[0] > pair[1]).count() >= 2, "{output}");
    assert!(!output.contains("is gone"), "{output}");
    proxy.stop().await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit_within(15 * SECOND).await.code(), Some(0), "{}", process.output());
}

/// The server receives two SIGTERMs while users connect, transfer and disconnect. It exits at once and in order, and no
/// user with an incomplete transfer sees a clean end.
#[tokio::test]
async fn two_sigterms_under_load_end_the_server_in_order() {
    let binary = env!("CARGO_BIN_EXE_underpass");
    let mut process = program(&format!("exec '{binary}' {SERVER} --drain 60"));
    let addr = process.listens().await;
    let (_proxy, _echo, public) = proxy(&addr.to_string()).await;
    // Some users stay connected.
    let mut stay = JoinSet::new();
    for _ in 0..100 {
        let mut user = TcpStream::connect(public).await.unwrap();
        echoes(&mut user, b"here").await;
        stay.spawn(async move {
            let mut got = Vec::new();
            user.read_to_end(&mut got).await.map(|_| got)
        });
    }
    // Others connect and disconnect as long as the server accepts.
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
                    // The complete echo or an error.
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
    assert!(process.output().contains("streams aborted: "), "{}", process.output());
}
