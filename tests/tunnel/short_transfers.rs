//! Transfers of a known size that end before it: the row, the log line and the counters say so, whoever cut them short,
//! and what was complete, or has no known size, reads `finished`.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use underpass::{
    config::ProxyFormat,
    control,
    ids::StreamKey,
    telemetry::{EndReason, EventKind, Snapshot},
};

use crate::support::{
    client::{curl, curl_command, is_installed},
    process::Process,
    soon,
    target::{self, Target, serve_with},
    text::{FieldCount, TextChannel},
    tunnel::{FORMATS, Tunnel},
};

/// Starts a target that answers `GET /fin/FRAMING` and the like: the body is 2 MB, of which half is sent before a FIN
/// (`fin`), an RST (`rst`) or never (`all` sends all of it). Requests on a persistent connection are answered in turn.
async fn target() -> Target {
    serve_with(|mut socket| async move {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return Ok(()),
                }
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let (end, framing) = path.split_once('/').unwrap();
            let half = vec![b'x'; 1_000_000];
            let (framing, body) = match framing {
                "sized" => ("200 OK\r\nContent-Length: 2000000", half.repeat(2)),
                "head" | "204" | "304" => match framing {
                    "head" => ("200 OK\r\nContent-Length: 2000000", vec![]),
                    "204" => ("204 No Content\r\nContent-Length: 2000000", vec![]),
                    _ => ("304 Not Modified\r\nContent-Length: 2000000", vec![]),
                },
                "part" => (
                    "206 Partial Content\r\nContent-Range: bytes 0-1999999/9999999\r\nContent-Length: 2000000",
                    half.repeat(2),
                ),
                "chunked" => (
                    "200 OK\r\nTransfer-Encoding: chunked",
                    [b"f4240\r\n".as_slice(), &half, b"\r\nf4240\r\n", &half, b"\r\n0\r\n\r\n"].concat(),
                ),
                _ => ("200 OK", half.repeat(2)),
            };
            let version = if path.ends_with("old") { "HTTP/1.0" } else { "HTTP/1.1" };
            socket.write_all(format!("{version} {framing}\r\n\r\n").as_bytes()).await?;
            let sent = if end == "all" { body.len() } else { body.len() / 2 };
            socket.write_all(&body[..sent]).await?;
            if end == "rst" {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            }
            if end != "all" || version == "HTTP/1.0" {
                return Ok(());
            }
        }
    })
    .await
}

/// Returns the text, as the log has it, of the end of the stream that is the `index`-th to end, and its reason.
async fn end(tunnel: &Tunnel, index: usize) -> (String, EndReason) {
    tunnel
        .until("the end of all streams", |now| {
            let totals = now.totals;
            totals.streams_total > index as u64 && totals.streams_open == 0
        })
        .await;
    let is_end = |event: &&EventKind| matches!(event, EventKind::StreamEnded { .. });
    let events = tunnel.events_until("an end", |events| events.iter().filter(is_end).count() > index).await;
    let ends: Vec<_> = events.iter().filter(is_end).collect();
    let EventKind::StreamEnded { reason, .. } = ends[index] else { unreachable!() };
    (ends[index].to_string(), reason.clone())
}

/// Returns the number of streams that are counted as failed.
fn failed(tunnel: &Tunnel) -> u64 {
    tunnel.telemetry.totals().streams_failed
}

/// Every `curl` that fails with 18 (a part of the body) reads short and is counted; every other one reads finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_short_exactly_when_curl_says_so() {
    if !is_installed("curl", "short downloads are tested without it") {
        return;
    }
    for format in FORMATS {
        let target = target().await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target.addr, format).await;
        let url = |path: &str| format!("http://{public}/{path}");
        let cases: [(&[&str], Option<i32>, &str); 14] = [
            (&["fin/sized"], Some(18), "short: 1.0M of 2.0M (down"),
            (&["fin/part", "-r", "0-1999999"], Some(18), "short: 1.0M of 2.0M (down"),
            (&["fin/chunked"], Some(18), "short: 1.0M of unknown size (down"),
            (&["all/sized", "fin/sized"], Some(18), "short: 1.0M of 2.0M (down"),
            (&["fin/sized", "--compressed"], Some(18), "short: 1.0M of 2.0M (down"),
            (&["rst/sized"], None, " of 2.0M, target connection reset or failed (down"),
            (&["all/sized"], Some(0), "finished (down"),
            (&["all/chunked"], Some(0), "finished (down"),
            (&["all/part", "-r", "0-1999999"], Some(0), "finished (down"),
            (&["all/sized", "all/chunked", "all/sized"], Some(0), "finished (down"),
            (&["all/head", "-I"], Some(0), "finished (down"),
            (&["all/204"], Some(0), "finished (down"),
            (&["all/304"], Some(0), "finished (down"),
            // The end of the connection is the end of the body: nothing is known to be missing.
            (&["fin/old", "-0"], Some(0), "finished (down"),
        ];
        for (index, (arguments, status, text)) in cases.into_iter().enumerate() {
            let before = failed(&tunnel);
            let urls: Vec<String> = arguments
                .iter()
                .map(|argument| if argument.contains('/') { url(argument) } else { argument.to_string() })
                .collect();
            let mut command = vec![];
            urls.iter().for_each(|url| match url.starts_with("http") {
                true => command.extend(["-o", "/dev/null", url.as_str()]),
                false => command.push(url),
            });
            let output = curl(&command).await.unwrap();
            let is_short = !text.starts_with("finished");
            match status {
                Some(status) => assert_eq!(output.status.code(), Some(status), "{format:?} {arguments:?}"),
                None => assert!(!output.status.success(), "{format:?} {arguments:?}"),
            }
            let (line, reason) = end(&tunnel, index).await;
            let begin = if is_short { " ended: short: " } else { " ended: finished (" };
            assert!(line.contains(begin) && line.contains(text), "{format:?} {arguments:?}: {line}");
            assert_eq!(reason.is_failure(), is_short, "{format:?} {arguments:?}");
            assert_eq!(failed(&tunnel) - before, u64::from(is_short), "{format:?} {arguments:?}");
        }
        tunnel.end().await;
    }
}

/// Returns whether a download flows whose response has begun.
fn flows(snapshot: &Snapshot) -> bool {
    snapshot.streams.iter().any(|stream| stream.progress.is_some() && stream.down > 500_000)
}

/// What the user, the operator or a lost proxy ends is no complete download either; only the last is a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_was_ended_names_who_ended_it_and_how_far_it_had_come() {
    let mut tunnel = Tunnel::start().await;
    let origin = target::origin(4_000_000).await;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    let download = || {
        let url = format!("http://{public}/file/200M");
        curl_command(&["-o", "/dev/null", &url]).map(|mut command| command.spawn().unwrap())
    };
    // The connection of a curl that is killed ends as after ^C.
    let Some(mut user) = download() else { return };
    tunnel.until("a download", flows).await;
    user.kill().await.unwrap();
    let (line, reason) = end(&tunnel, 0).await;
    assert!(line.contains(" ended: ended by the user at ") && line.contains(" of 200M ("), "{line}");
    assert!(matches!(reason, EndReason::UserClosed | EndReason::UserSocketError), "{reason:?}");
    assert_eq!(failed(&tunnel), 0);

    let mut user = download().unwrap();
    let key: StreamKey = tunnel.until("a download", flows).await.streams[0].key;
    tunnel.order(control::Command::KillStream(key)).await.unwrap();
    assert!(!soon("curl fails", user.wait()).await.unwrap().success());
    let (line, _) = end(&tunnel, 1).await;
    assert!(line.contains(" ended: killed by the operator at ") && line.contains(" of 200M ("), "{line}");
    assert_eq!(failed(&tunnel), 0);

    let mut user = download().unwrap();
    tunnel.until("a download", flows).await;
    tunnel.stop_proxy(0).await;
    assert!(!soon("curl fails", user.wait()).await.unwrap().success());
    let (line, _) = end(&tunnel, 2).await;
    assert!(
        line.contains(" ended: short: ") && line.contains(" of 200M, link to the proxy lost ("),
        "{line}"
    );
    assert_eq!(failed(&tunnel), 1);
    tunnel.end().await;
}

/// The trial of an operator: the web server was killed during downloads, and the kernel closed its connections in
/// order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_whose_target_process_is_killed_are_short() {
    const DOWNLOADS: usize = 3;
    let directory = std::env::temp_dir().join(format!("underpass-short-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = std::fs::File::create(directory.join("file")).unwrap();
    file.set_len(200_000_000).unwrap();
    let server = "import http.server, sys; \
                  s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); \
                  print('port', s.server_port, flush=True); s.serve_forever()";
    if !is_installed("curl", "a killed target is not tested")
        || !is_installed("python3", "a killed target is not tested")
    {
        return;
    }
    let mut command = Command::new("python3");
    command.args(["-c", server]).current_dir(&directory);
    let mut server = Process::spawn(command);
    let port: u16 = server.line("port ").await.split(' ').nth(1).unwrap().parse().unwrap();
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(SocketAddr::from(([127, 0, 0, 1], port)), ProxyFormat::Binary).await;
    let url = format!("http://{public}/file");
    let mut downloads: Vec<_> = (0..DOWNLOADS)
        .map(|_| {
            let arguments = ["--limit-rate", "20M", "-o", "/dev/null", &url];
            curl_command(&arguments).unwrap().spawn().unwrap()
        })
        .collect();
    tunnel
        .until("downloads", |now| now.streams.iter().filter(|stream| stream.down > 0).count() == DOWNLOADS)
        .await;
    server.kill_9().await;
    for download in &mut downloads {
        let status = soon("curl fails", download.wait()).await.unwrap();
        assert!(matches!(status.code(), Some(18 | 56)), "{status}");
    }
    for index in 0..DOWNLOADS {
        let (line, reason) = end(&tunnel, index).await;
        assert!(line.contains(" ended: short: ") && line.contains(" of 200M"), "{line}");
        assert!(reason.is_failure());
    }
    assert_eq!(failed(&tunnel), DOWNLOADS as u64);
    std::fs::remove_dir_all(&directory).unwrap();
    tunnel.end().await;
}

/// An upload that its user cuts is no success, whatever the target makes of the part that it got.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_its_user_cuts_short_is_not_finished() {
    let target = target::after_end(0).await;
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n").await.unwrap();
    user.write_all(&vec![b'x'; 500_000]).await.unwrap();
    user.shutdown().await.unwrap();
    soon("the answer", user.read_to_end(&mut Vec::new())).await.unwrap();
    let (line, reason) = end(&tunnel, 0).await;
    assert!(line.contains(" ended: ended by the user at 500K of 2.0M of the upload (FIN) (down"), "{line}");
    assert_eq!((reason, failed(&tunnel)), (EndReason::UserClosed, 0));
    tunnel.end().await;
}

/// The size that a text proxy announces counts where nothing else is known of the download.
#[tokio::test]
async fn a_download_that_is_shorter_than_its_text_proxy_announced_is_short() {
    let tunnel = Tunnel::start().await;
    let mut channel = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
    channel.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    channel.send("", 0, "ADDPROXY:0", b"").await;
    let port = channel.hear_action("RESPONSE").await.text();
    let public =
        SocketAddr::new(target::LOOPBACK.ip(), port.strip_suffix(":default").unwrap().parse().unwrap());
    for (index, (announced, text)) in
        [("20", "short: 5 of 20 (down 5"), ("5", "finished (down 5"), ("", "finished (down 5")]
            .into_iter()
            .enumerate()
    {
        let mut user = TcpStream::connect(public).await.unwrap();
        let start = channel.hear_action("STREAM_START").await;
        channel.answer(&start, "STREAM_START", announced.as_bytes()).await;
        channel.answer(&start, "STREAM_DATA", b"bytes").await;
        channel.answer(&start, "STREAM_END", b"").await;
        let mut bytes = Vec::new();
        soon("the download", user.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes, b"bytes");
        drop(user);
        channel.hear_action("STREAM_END").await;
        let (line, _) = end(&tunnel, index).await;
        assert!(line.contains(&format!(" ended: {text}")), "{line}");
    }
    assert_eq!(failed(&tunnel), 1);
    drop(channel);
    tunnel.end().await;
}
