//! Tests of the helpers in `tests/support` without a tunnel, so that they are not the cause when another test fails.

use std::time::Duration;

use crate::support::{
    client::{Fetched, curl, fetch},
    process::{Process, Signal},
    soon, target,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use underpass::cli::demo::{DemoFile, DemoLoad, DemoLoadOptions, FileVerifier, Sha256Sum};

const SECOND: Duration = Duration::from_secs(1);

async fn ask(addr: std::net::SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(question).await?;
    socket.shutdown().await?;
    let mut answer = Vec::new();
    soon("an answer", socket.read_to_end(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test]
async fn targets_behave_as_documented() {
    let file = DemoFile { seed: 4, size: 1_000_000 };
    let echo = target::echo().await;
    assert_eq!(ask(echo.addr, b"hello").await.unwrap(), b"hello");
    echo.when(|c| c.open == 0 && c.accepted == 1 && c.failed == 0, 5 * SECOND).await;

    assert_eq!(ask(target::ping_pong().await.addr, b"PING\nPING\nX\n").await.unwrap(), b"PONG\nPONG\nWHAT\n");
    assert_eq!(ask(target::sink().await.addr, b"hello").await.unwrap(), b"");

    let mut verifier = FileVerifier::new(file);
    verifier.verify(&ask(target::send(file).await.addr, b"unread").await.unwrap()).unwrap();
    assert_eq!(verifier.remaining_bytes(), 0);

    let answer = ask(target::after_end(5).await.addr, b"hello").await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), format!("5 {}\nhello", Sha256Sum::of(b"hello")));
    let answer = ask(target::after_end(4).await.addr, b"hello").await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), format!("5 {}\n", Sha256Sum::of(b"hello")));

    let reset = target::send_then_reset(file, 1000).await;
    let mut socket = TcpStream::connect(reset.addr).await.unwrap();
    socket.read_exact(&mut [0; 1000]).await.unwrap();
    socket.write_all(b"go").await.unwrap();
    assert_eq!(
        soon("a reset", socket.read(&mut [0])).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    let refused = TcpStream::connect(target::refusing().await).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_target_counts_its_connections_and_stops_with_its_guard() {
    let idle = target::idle().await;
    let mut first = TcpStream::connect(idle.addr).await.unwrap();
    let second = TcpStream::connect(idle.addr).await.unwrap();
    idle.when(|c| c.open == 2, 5 * SECOND).await;
    socket2::SockRef::from(&second).set_linger(Some(Duration::ZERO)).unwrap();
    drop(second);
    idle.when(|c| c.open == 1 && c.failed == 1, 5 * SECOND).await;
    let addr = idle.addr;
    drop(idle);
    assert_eq!(soon("the end", first.read(&mut [0])).await.unwrap_or(0), 0);
    // The aborted task is dropped when the runtime polls it next.
    soon("the port refuses connections", async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_origin_serves_curl() {
    let origin = target::origin(None).await;
    let file = DemoFile { seed: 8, size: 30 << 20 };
    let got = fetch(origin.addr, &file.path()).await.unwrap();
    assert_eq!(got, Fetched::from(file));
    assert!(fetch(origin.addr, "/nothing").await.unwrap_err().contains("404"));

    let dir = std::env::temp_dir().join(format!("underpass-helpers-{}", std::process::id()));
    let body = vec![7; 3 << 20];
    std::fs::write(&dir, &body).unwrap();
    let (path, url) = (dir.to_str().unwrap(), format!("http://{}/upload", origin.addr));
    // Curl sends `Expect: 100-continue` before a large upload, and chunks a piped one.
    let expect = curl(&["-T", path, "-H", "Expect: 100-continue", &url]).await;
    let chunked = curl(&["-T", path, "-H", "Transfer-Encoding: chunked", &url]).await;
    std::fs::remove_file(&dir).unwrap();
    for output in expect.into_iter().chain(chunked) {
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("length {}\nsha256 {}\n", body.len(), Sha256Sum::of(&body)));
    }
}

#[tokio::test]
async fn a_rate_limited_origin_keeps_its_rate() {
    let origin = target::origin(4_000_000).await;
    let start = std::time::Instant::now();
    let file = DemoFile { seed: 1, size: 2_000_000 };
    assert_eq!(fetch(origin.addr, &file.path()).await.unwrap(), Fetched::from(file));
    assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn demo_users_and_origin_count_the_same_bytes() {
    let origin = target::origin(None).await;
    let options =
        DemoLoadOptions { max_pause: Duration::ZERO, max_transfers: Some(60), ..DemoLoadOptions::default() };
    let load = DemoLoad::new(origin.addr, 3, 11).with_options(options);
    let tally = load.counters();
    soon("sixty transfers", load.run(Default::default())).await;
    let report = tally.report();
    assert_eq!((report.downloads + report.uploads, report.started), (60, 60), "{report:?}");
    origin.when_open(0, 5 * SECOND).await;
    assert_eq!((report.down, report.up), (origin.traffic.bytes_written(), origin.traffic.bytes_read()));
}

#[tokio::test]
async fn a_process_can_be_read_signalled_and_killed() {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "trap 'echo bye; exit 3' TERM; echo one; echo two >&2; while :; do read x && echo got $x; done",
    ]);
    let mut process = Process::spawn(shell);
    assert_eq!(soon("stdout", process.line("one")).await, "one");
    process.stdin().write_all(b"this\n").await.unwrap();
    process.line("got this").await;
    process.signal(Signal::Term).await;
    assert_eq!(process.exit().await.code(), Some(3));
    assert!(process.stdout().ends_with("bye\n") && process.stderr() == "two\n", "{}", process.output());

    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut process = Process::spawn(sleep);
    if cfg!(target_os = "linux") {
        assert!(process.resident_kib().unwrap() > 0);
    }
    process.kill_9().await;
    assert_eq!(process.exit().await.code(), None);
}

#[tokio::test]
async fn the_program_prints_its_version() {
    let mut process = Process::underpass(&["--version"]);
    process.exit().await;
}
