//! The formats of the log on stderr: `--log-format`.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    process::{Process, Signal, TOKEN},
    soon, target,
};

/// Runs a server with this format, and a stream of 5 bytes through it. Returns its stderr, the user's address,
/// and the public port.
async fn session(format: &str) -> (String, SocketAddr, u16) {
    let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];
    let mut server = Process::underpass(&[&args[..], &["--log-format", format]].concat());
    let line = server.line("listening for proxies on ").await;
    let addr = line.split("listening for proxies on ").nth(1).unwrap();
    let addr: SocketAddr = addr.split('"').next().unwrap().parse().unwrap();
    let echo = target::echo().await;
    let (addr, target) = (addr.to_string(), echo.addr.to_string());
    let args =
        ["proxy", "--server", &addr, "--port", "0", "--to", &target, "--token", TOKEN, "--name", "l\"b"];
    let mut proxy = Process::underpass(&args);
    let port = proxy.serves().await.port;
    let mut user = soon("a user", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    let user_addr = user.local_addr().unwrap();
    user.write_all(b"hello").await.unwrap();
    user.shutdown().await.unwrap();
    soon("the echo", user.read_to_end(&mut Vec::new())).await.unwrap();
    server.line(" ended: finished").await;
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
    (server.stderr(), user_addr, port)
}

#[tokio::test]
async fn json_has_one_object_a_line_and_all_that_is_known_of_a_stream() {
    let (output, user, port) = session("json").await;
    let records: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for record in &records {
        let text = |field: &str| record[field].as_str().unwrap_or_else(|| panic!("no {field}: {record}"));
        // RFC 3339 in UTC, such as 2026-11-30T11:32:17.123456Z.
        let time = text("timestamp");
        assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
        assert!(["ERROR", "WARN", "INFO"].contains(&text("level")), "{record}");
        assert!(!text("target").is_empty() && !text("message").is_empty(), "{record}");
    }
    let ends: Vec<_> = records.iter().filter(|record| record["event"] == "stream_ended").collect();
    let [end] = &ends[..] else { panic!("{output}") };
    assert_eq!(end["target"], "lifecycle");
    assert_eq!(end["user"], user.to_string());
    assert_eq!(end["service"], format!("{port}:default"));
    assert_eq!((&end["proxy"], &end["proxy_name"]), (&"P1".into(), &"l\"b".into()));
    assert_eq!((&end["down_bytes"], &end["up_bytes"]), (&5.into(), &5.into()));
    assert_eq!((&end["ended_by"], &end["reason"]), (&"both".into(), &"finished".into()));
    let seconds = |field: &str| end[field].as_f64().unwrap_or_else(|| panic!("no {field}: {end}"));
    assert!(seconds("time_to_first_byte_seconds") > 0.0);
    assert!(seconds("time_to_first_byte_seconds") <= seconds("duration_seconds"), "{end}");
    let key = end["stream"].as_str().unwrap();
    assert!(end["message"].as_str().unwrap().starts_with(&format!("stream {key} ended: finished")), "{end}");
}

#[tokio::test]
async fn each_line_for_the_journal_begins_with_its_priority() {
    let (output, ..) = session("journal").await;
    assert!(!output.is_empty());
    for line in output.lines() {
        let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let Some((priority, text)) = priority else { panic!("{line}") };
        assert!(["4", "6"].contains(&priority), "{line}");
        assert!(!text.starts_with("20"), "the journal has the time already: {line}");
    }
    assert!(output.contains("<6>lifecycle: listening for proxies on 127.0.0.1:"), "{output}");
    // Stream ends have the same text as in the usual format.
    assert!(output.contains("ended: finished (down 5 bytes, up 5 bytes) user="), "{output}");
}
