//! Signals to a process that waits for a name server or is blocked, and signals that its parent ignored.

use std::{
    os::unix::process::ExitStatusExt as _,
    sync::LazyLock,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    LONG, preload,
    process::{Process, STATE, Signal, TOKEN},
    promised_second, within,
};

/// A library with which no name lookup returns.
static STUCK: LazyLock<String> = LazyLock::new(|| preload::compile("support/stuck.c"));

/// Runs underpass where no name lookup returns, and neither does the system call `stuck`.
fn underpass(args: &[&str], stuck: &str) -> Process {
    let args = [args, &["--token", TOKEN]].concat();
    Process::underpass_with(&args, |command| {
        command.env("LD_PRELOAD", &*STUCK).env("STUCK", stuck);
    })
}

/// Runs a server where no name lookup returns. Returns it, and the address of its tunnel port.
async fn server(more: &[&str]) -> (Process, String) {
    let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui"];
    let mut server = underpass(&[&args[..], more].concat(), "");
    let addr = server.listens().await.to_string();
    (server, addr)
}

/// Asserts that a process ends without an error within the second that is promised.
async fn ends_in_time(process: &mut Process) {
    let begin = Instant::now();
    assert_eq!(process.exit_within(promised_second()).await.code(), Some(0), "{}", process.output());
    println!("ended after {:?}", begin.elapsed());
}

/// Waits until the kernel has delivered every signal to a process. It makes one of two that it could not deliver yet.
async fn is_delivered(process: &Process) {
    let status = format!("/proc/{}/status", process.pid());
    within(LONG, "the delivery of a signal", async {
        // There is no file once the process has ended.
        while let Ok(status) = std::fs::read_to_string(&status) {
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).map(str::trim);
            if pending.is_none_or(|pending| pending.trim_matches('0').is_empty()) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Starts a server, and a proxy whose target is a name. Returns the public address, too.
async fn tunnel_to_a_name(drain: &str) -> (Process, Process, String) {
    let (server, addr) = server(&[]).await;
    let args = ["proxy", "--server", &addr, "--port", "0", "--to", "target.test:80", "--drain", drain];
    let mut proxy = underpass(&args, "");
    let public = format!("127.0.0.1:{}", proxy.serves().await.port);
    (server, proxy, public)
}

/// glibc asks each name server twice for 5 s. The runtime waited for the thread that did.
#[tokio::test]
async fn a_name_server_that_does_not_answer_delays_no_exit() {
    let mut proxy = underpass(&["proxy", "--server", "server.test:7000", "--port", "0", "--to", "h:80"], "");
    proxy.line("getaddrinfo never returns").await;
    proxy.signal(Signal::Term).await;
    ends_in_time(&mut proxy).await;
}

#[tokio::test]
async fn a_stream_that_waits_for_a_name_server_ends_with_the_drain() {
    for (drain, signals) in [("0.3", 1), ("1000", 2)] {
        let (_server, mut proxy, public) = tunnel_to_a_name(drain).await;
        let mut user = TcpStream::connect(&public).await.unwrap();
        proxy.line("getaddrinfo never returns").await;
        proxy.signal(Signal::Term).await;
        proxy.line("draining, streams still open: 1").await;
        if signals == 2 {
            proxy.signal(Signal::Term).await;
        }
        ends_in_time(&mut proxy).await;
        let ended = within(LONG, "the user's end", user.read(&mut [0])).await;
        assert!(ended.is_err(), "an unfinished stream looks complete");
    }
}

/// A stream without a connection to its target took the whole drain timeout.
#[tokio::test]
async fn a_stream_that_waits_for_a_name_server_does_not_delay_the_end() {
    let (_server, mut proxy, public) = tunnel_to_a_name("1000").await;
    let _user = TcpStream::connect(&public).await.unwrap();
    proxy.line("getaddrinfo never returns").await;
    proxy.signal(Signal::Term).await;
    proxy.line("draining, streams still open: 1").await;
    ends_in_time(&mut proxy).await;
}

/// A user for whom there is no proxy, and for whom none can come, took the whole wait timeout.
#[tokio::test]
async fn a_user_that_waits_for_a_proxy_does_not_delay_the_end_of_the_server() {
    let (mut server, addr) = server(&["--wait", "1000", "--drain", "1000"]).await;
    let mut proxy = underpass(&["proxy", "--server", &addr, "--port", "0", "--to", "127.0.0.1:1"], "");
    let public = format!("127.0.0.1:{}", proxy.serves().await.port);
    proxy.signal(Signal::Term).await;
    server.line("disconnected").await;
    let mut user = TcpStream::connect(&public).await.unwrap();
    user.write_all(b"request").await.unwrap();
    server.signal(Signal::Term).await;
    // At the beginning of the drain, or once the user has been accepted after that.
    server.line("streams still open: 1").await;
    ends_in_time(&mut server).await;
}

/// The worker thread, on which signals used to be handled, never returns from a system call.
#[tokio::test]
async fn the_second_signal_ends_a_process_that_is_blocked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let args = ["proxy", "--server", &addr, "--port", "0", "--to", "127.0.0.1:9", "--workers", "1"];
    for signals in [2, 3] {
        let mut proxy = underpass(&args, "socket");
        proxy.line("socket never returns").await;
        let begin = Instant::now();
        for _ in 0..signals {
            proxy.signal(Signal::Term).await;
            is_delivered(&proxy).await;
        }
        // After two seconds; the first signal alone ends the process after ten.
        let status = proxy.exit_within(Duration::from_secs(8)).await;
        assert_eq!(status.signal(), Some(15), "{status}, {}", proxy.output());
        assert!(proxy.output().contains("ended by SIGTERM at once"), "{}", proxy.output());
        println!("{signals} signals: ended after {:?}", begin.elapsed());
    }
}

/// `docker stop` kills a process 10 s after the first signal. A blocked one ends before, with the terminal restored.
#[tokio::test]
async fn a_blocked_process_ends_within_ten_seconds_of_the_first_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let args = ["proxy", "--server", &addr, "--port", "0", "--to", "127.0.0.1:9", "--workers", "1"];
    let mut proxy = underpass(&args, "socket");
    proxy.line("socket never returns").await;
    let begin = Instant::now();
    proxy.signal(Signal::Term).await;
    let status = proxy.exit_within(promised_second() + Duration::from_secs(9)).await;
    assert_eq!(status.signal(), Some(15), "{status}, {}", proxy.output());
    assert!(proxy.output().contains("ended by SIGTERM at once"), "{}", proxy.output());
    println!("ended after {:?}", begin.elapsed());
}

/// `nohup` ignores SIGHUP, and a shell without job control SIGINT of its background commands.
#[tokio::test]
async fn signals_that_the_parent_ignored_stay_ignored() {
    let program = env!("CARGO_BIN_EXE_underpass");
    let server = format!(
        "trap '' HUP INT; exec '{program}' server --listen 127.0.0.1:0 --bind 127.0.0.1 --no-tui --token {TOKEN}"
    );
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &server]).env("STATE_DIRECTORY", STATE);
    let mut server = Process::spawn(command);
    server.listens().await;
    for signal in [Signal::Hup, Signal::Int] {
        server.signal(signal).await;
        server.signal(signal).await;
    }
    // The first signal that is not ignored drains: the others did not count.
    server.signal(Signal::Term).await;
    server.line("draining").await;
    ends_in_time(&mut server).await;
    assert_eq!(server.output().matches("draining").count(), 1, "{}", server.output());
}
