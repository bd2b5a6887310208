//! The program as a process: its output, its exit status and its reaction to signals.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    client::{Fetched, download, fetch, is_reset, is_reset_within, was_reset},
    process::{Process, Signal, TOKEN},
    promised_second,
    target::{self, OriginTarget},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::cli::demo::DemoFile;

const SECOND: Duration = Duration::from_secs(1);

/// A file that is larger than what a test downloads.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };

/// A file that takes three seconds at [`RATE`].
const SHORT: DemoFile = DemoFile { seed: 2, size: 6_000_000 };
/// Rate limit of an origin in bytes per second.
const RATE: u64 = 2_000_000;

/// Starts a server on a free port. Returns its address, too.
async fn server(more: &[&str]) -> (Process, SocketAddr) {
    Process::server(TOKEN, more).await
}

fn proxy_process(server: SocketAddr, port: u16, target: SocketAddr, more: &[&str]) -> Process {
    let (server, port, target) = (server.to_string(), port.to_string(), target.to_string());
    let args = ["proxy", "--server", &server, "--port", &port, "--to", &target, "--token", TOKEN];
    Process::underpass(&[&args[..], more].concat())
}

/// Starts a proxy and waits until it serves. Returns its public address, too.
async fn proxy(server: SocketAddr, port: u16, target: SocketAddr, more: &[&str]) -> (Process, SocketAddr) {
    let mut proxy = proxy_process(server, port, target, more);
    let public = SocketAddr::new(server.ip(), proxy.serves().await.port);
    (proxy, public)
}

/// Waits until the origin has sent 100 kB.
async fn flows(origin: &OriginTarget) {
    within(crate::support::LONG, "bytes flow", async {
        while origin.traffic.bytes_written() < 100_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_token_prints_one_error() {
    let (mut server, addr) = server(&[]).await;
    for format in ["binary", "text"] {
        let mut proxy = Process::proxy(addr, "127.0.0.1:9", "Qm4Wx7Rk2Tz9Lb5Vd8Jc", &["--format", format]);
        assert_eq!(proxy.exit().await.code(), Some(3), "{}", proxy.output());
        let errors: Vec<_> =
            proxy.stderr().lines().filter(|l| l.starts_with("underpass: ")).map(str::to_owned).collect();
        assert_eq!(errors.len(), 1, "{}", proxy.output());
        assert!(errors[0].contains("wrong token"), "{errors:?}");
        assert!(!proxy.output().contains("retrying in"), "{}", proxy.output());
        println!("{format}: {}", proxy.output().trim());
        server.line("wrong token").await;
    }
    let said = server.output();
    assert!(!said.contains(TOKEN) && !said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn a_refused_port_prints_one_error() {
    let (_server, addr) = server(&[]).await;
    for format in ["binary", "text"] {
        let mut proxy = proxy_process(addr, 22, addr, &["--format", format]);
        assert_eq!(proxy.exit().await.code(), Some(3), "{}", proxy.output());
        let expected = format!(
            "underpass: {addr} refused public port 22: port 22 is not allowed: the server allows ports 1024-65535"
        );
        assert!(proxy.stderr().lines().any(|line| line == expected), "{}", proxy.output());
    }
}

/// Starts a server that keeps its token in `state`. Returns the arguments of the proxy command that it prints, without
/// the port and the target.
async fn server_with_state(state: &str) -> (Process, Vec<String>) {
    let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--state-dir", state];
    let mut server = Process::underpass(&args);
    server.line(&format!("generated token, kept in {state}/token")).await;
    let line = server.line("underpass proxy --server").await;
    let words = line.split_whitespace().skip(1).take_while(|word| *word != "--port");
    (server, words.map(str::to_owned).collect())
}

/// The log of a service has other readers than the operator, and all proxies would need another token after each
/// restart.
#[tokio::test]
async fn a_generated_token_is_kept_in_a_file_and_not_in_the_log() {
    let state = format!("{}/kept-token", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_dir_all(&state);
    let origin = target::origin(None).await;
    let to = origin.addr.to_string();
    for _ in 0..2 {
        let (server, args) = server_with_state(&state).await;
        let token = std::fs::read_to_string(format!("{state}/token")).unwrap();
        assert!(!server.output().contains(token.trim()), "{}", server.output());
        // The printed command names the copy of the file on the other machine.
        assert_eq!(args.last().unwrap(), "token");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut proxy =
            Process::underpass_with(&[&args[..], &["--port", "0", "--to", &to]].concat(), |command| {
                command.current_dir(&state);
            });
        proxy.line("serving ").await;
    }
}

/// Operators find a client again by its id, in logs and on the screen.
#[tokio::test]
async fn a_user_has_the_same_id_after_a_restart_of_the_server() {
    let state = format!("{}/kept-user-ids", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_dir_all(&state);
    let origin = target::origin(None).await;
    let mut port = 0;
    let mut lines = Vec::new();
    for _ in 0..2 {
        let (mut server, addr) = server(&["--state-dir", &state]).await;
        let (_proxy, public) = proxy(addr, port, origin.addr, &[]).await;
        port = public.port();
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        // `stream 3F9A1C:1 ended: finished …`
        let line = server.line("ended: finished").await;
        lines.push(line.split("stream ").nth(1).unwrap().split(' ').next().unwrap().to_owned());
    }
    assert_eq!(lines[0], lines[1]);
    assert!(lines[0].ends_with(":1"), "{lines:?}");
}

#[tokio::test]
async fn sigkill_of_a_proxy_resets_its_users_only() {
    for format in ["binary", "text"] {
        let (_server, addr) = server(&[]).await;
        let origins = [target::origin(RATE).await, target::origin(RATE).await];
        let format = ["--format", format];
        let (mut doomed, public) = proxy(addr, 0, origins[0].addr, &format).await;
        let first = download(public, ENDLESS);
        flows(&origins[0]).await;
        let (_other, same) = proxy(addr, public.port(), origins[1].addr, &format).await;
        assert_eq!(same, public);
        // Two more users: with round robin, one of them is assigned to the other proxy.
        let second = download(public, ENDLESS);
        let third = download(public, ENDLESS);
        flows(&origins[1]).await;
        origins[0].when_open(2, crate::support::LONG).await;
        doomed.kill_9().await;
        let begin = Instant::now();
        // A running proxy would reconnect within a second and four RTTs; a text proxy cannot resume its streams.
        is_reset_within(promised_second() + SECOND, first).await;
        origins[0].when_open(0, promised_second()).await;
        let (dead, live) = within(promised_second(), "one of the two ends", async {
            loop {
                match (second.has_ended(), third.has_ended()) {
                    (true, _) => return (second, third),
                    (_, true) => return (third, second),
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        })
        .await;
        is_reset(dead).await;
        println!("{format:?}: the users of a killed proxy knew after {:?}", begin.elapsed());
        // The stream of the other proxy continues, and new users are assigned to it.
        let before = origins[1].traffic.bytes_written();
        for _ in 0..4 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        within(crate::support::LONG, "more bytes", async {
            while origins[1].traffic.bytes_written() < before + 1_000_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(!live.has_ended());
    }
}

/// The kernel closes the sockets of a killed process with a FIN, which must not look like the end of an upload.
#[tokio::test]
async fn sigkill_of_the_server_resets_the_target_of_an_upload() {
    for doomed in ["proxy", "server"] {
        // The grace time for which the proxy waits for its server.
        let (mut server, addr) = server(&["--grace", "1"]).await;
        let target = target::echo().await;
        let (mut proxy, public) = proxy(addr, 0, target.addr, &[]).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(b"the first half").await.unwrap();
        within(crate::support::LONG, "an echo", user.read_exact(&mut [0; 14])).await.unwrap();
        if doomed == "proxy" {
            proxy.kill_9().await
        } else {
            server.kill_9().await
        }
        let cut = target.when(|counts| counts.open == 0, 5 * SECOND).await;
        assert_eq!(cut.failed, 1, "{doomed}");
        let error = within(5 * SECOND, "the user's end", user.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{doomed}");
    }
}

#[tokio::test]
async fn sigkill_of_the_server_resets_users_and_proxies_reconnect() {
    let (mut first, addr) = server(&[]).await;
    let origin = target::origin(RATE).await;
    let (mut proxy, public) = proxy(addr, 0, origin.addr, &[]).await;
    let doomed = download(public, ENDLESS);
    flows(&origin).await;
    first.kill_9().await;
    is_reset(doomed).await;
    let listen = addr.to_string();
    let args = ["server", "--listen", &listen, "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];
    let mut second = Process::underpass(&args);
    second.listens().await;
    let line = proxy.line("serving ").await;
    origin.when_open(0, 2 * SECOND).await;
    assert!(line.contains(&format!("serving {}:", public.port())), "{line}");
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
}

#[tokio::test]
async fn sigterm_drains_open_downloads() {
    for signal in [Signal::Term, Signal::Int] {
        let (mut server, addr) = server(&["--drain", "20"]).await;
        let origin = target::origin(RATE).await;
        let (_proxy, public) = proxy(addr, 0, origin.addr, &[]).await;
        let download = download(public, SHORT);
        flows(&origin).await;
        server.signal(signal).await;
        server.line("draining, streams still open: 1").await;
        let refused = fetch(public, "/file/1").await.unwrap_err();
        assert!(!download.has_ended(), "it was too short to show anything");
        assert!(refused.contains("exit status: 7") || refused.contains("refused"), "{refused}");
        assert_eq!(download.end("the open download").await, Ok(Fetched::from(SHORT)));
        // The drain ends with the last stream, before its timeout.
        assert_eq!(server.exit_within(5 * SECOND).await.code(), Some(0), "{}", server.output());
        assert!(server.output().contains("streams aborted: 0"), "{}", server.output());
    }
}

#[tokio::test]
async fn sigterm_resets_streams_that_outlast_the_drain() {
    let (mut server, addr) = server(&["--drain", "0.5"]).await;
    let origin = target::origin(RATE).await;
    let (_proxy, public) = proxy(addr, 0, origin.addr, &[]).await;
    let download = download(public, ENDLESS);
    flows(&origin).await;
    let begin = Instant::now();
    server.signal(Signal::Term).await;
    let error = download.end("the open download").await.unwrap_err();
    was_reset(&error);
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(server.exit_within(3 * SECOND).await.code(), Some(0), "{}", server.output());
    assert!(server.output().contains("streams aborted: 1"), "{}", server.output());
    println!("cut off and ended after {:?}", begin.elapsed());
    origin.when_open(0, promised_second()).await;
}

/// Regression test: the task that waited for a second signal ended early.
#[tokio::test]
async fn a_second_sigterm_ends_the_drain_of_the_server() {
    let (mut server, addr) = server(&["--drain", "1000"]).await;
    let origin = target::origin(RATE).await;
    let (_proxy, public) = proxy(addr, 0, origin.addr, &[]).await;
    let download = download(public, ENDLESS);
    flows(&origin).await;
    server.signal(Signal::Term).await;
    server.line("draining, streams still open: 1").await;
    server.signal(Signal::Term).await;
    assert_eq!(server.exit_within(5 * SECOND).await.code(), Some(0), "{}", server.output());
    is_reset(download).await;
}

#[tokio::test]
async fn sigterm_ends_a_proxy_without_drain_and_resets_its_users() {
    for format in ["binary", "text"] {
        let (mut server, addr) = server(&[]).await;
        let origin = target::origin(RATE).await;
        let (mut proxy, public) = proxy(addr, 0, origin.addr, &["--format", format, "--drain", "0.5"]).await;
        let download = download(public, ENDLESS);
        flows(&origin).await;
        proxy.signal(Signal::Term).await;
        proxy.line("streams aborted: 1").await;
        assert_eq!(proxy.exit_within(5 * SECOND).await.code(), Some(0), "{}", proxy.output());
        is_reset(download).await;
        origin.when_open(0, promised_second()).await;
        server.line("disconnected").await;
    }
}

#[tokio::test]
async fn sigterm_drains_a_proxy_that_gets_no_new_streams() {
    for format in ["binary", "text"] {
        let (_server, addr) = server(&[]).await;
        let (origin, other) = (target::origin(RATE).await, target::origin(RATE).await);
        let (mut leaving, public) = proxy(addr, 0, origin.addr, &["--format", format, "--drain", "20"]).await;
        let download = download(public, SHORT);
        flows(&origin).await;
        let (_staying, _) = proxy(addr, public.port(), other.addr, &[]).await;
        leaving.signal(Signal::Term).await;
        leaving.line("draining, streams still open: 1").await;
        for _ in 0..4 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        // Round robin would assign two users to the draining proxy. One may still be, before the server receives its
        // GOAWAY.
        assert!(other.traffic.bytes_written() >= 3000, "{}", other.traffic.bytes_written());
        assert!(!download.has_ended(), "it was too short to show anything");
        assert_eq!(download.end("the open download").await, Ok(Fetched::from(SHORT)));
        // The drain ends with the last stream, before its timeout.
        assert_eq!(leaving.exit_within(5 * SECOND).await.code(), Some(0), "{}", leaving.output());
        assert!(!leaving.output().contains("cut off"), "{}", leaving.output());
    }
}

#[tokio::test]
async fn a_second_sigterm_ends_the_drain_of_a_proxy() {
    let (_server, addr) = server(&[]).await;
    let origin = target::origin(RATE).await;
    let (mut proxy, public) = proxy(addr, 0, origin.addr, &["--drain", "1000"]).await;
    let download = download(public, ENDLESS);
    flows(&origin).await;
    proxy.signal(Signal::Term).await;
    proxy.line("draining, streams still open: 1").await;
    proxy.signal(Signal::Term).await;
    assert_eq!(proxy.exit_within(5 * SECOND).await.code(), Some(0), "{}", proxy.output());
    is_reset(download).await;
}
