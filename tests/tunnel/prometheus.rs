//! Metrics and health checks of real processes: `--metrics`.

use std::{collections::BTreeSet, io::Write, net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client,
    exposition::{Exposition, request, scrape},
    process::{Process, Signal, TOKEN},
    soon, target, within,
};

/// The directory of dashboard and rules.
const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/prometheus");

/// Waits until a process serves metrics. Returns their address.
async fn metrics_of(process: &mut Process) -> SocketAddr {
    let line = process.line("metrics on http://").await;
    line.rsplit("http://").next().and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap()
}

/// Scrapes until the samples satisfy `wanted`.
async fn until(addr: SocketAddr, what: &str, wanted: impl Fn(&Exposition) -> bool) -> Exposition {
    let found = async {
        loop {
            let (exposition, _) = scrape(addr).await;
            if wanted(&exposition) {
                return exposition;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon(what, found).await
}

/// Starts a server and a proxy with metrics, whose name needs escapes. Returns their addresses for scrapers, and the
/// public one.
async fn start(target: SocketAddr) -> (Process, SocketAddr, Process, SocketAddr, SocketAddr) {
    let (mut server, addr) = Process::server(TOKEN, &["--metrics", "127.0.0.1:0"]).await;
    let server_metrics = metrics_of(&mut server).await;
    let options = ["--name", r#"la"b\"#, "--metrics", "127.0.0.1:0"];
    let mut proxy = Process::proxy(addr, target, TOKEN, &options);
    let proxy_metrics = metrics_of(&mut proxy).await;
    let public = SocketAddr::new([127, 0, 0, 1].into(), proxy.serves().await.port);
    (server, server_metrics, proxy, proxy_metrics, public)
}

/// Opens a stream, and exchanges `bytes` with the echo behind it.
async fn exchange(public: SocketAddr, bytes: usize) -> TcpStream {
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    user.write_all(&vec![7; bytes]).await.unwrap();
    soon("the echo", user.read_exact(&mut vec![0; bytes])).await.unwrap();
    user
}

#[tokio::test]
async fn counters_move_while_a_stream_is_open() {
    let echo = target::echo().await;
    let (_server, metrics, _proxy, proxy_metrics, public) = start(echo.addr).await;
    let service = format!("service=\"{}:default\"", public.port());
    let proxy = r#"proxy="la\"b\\""#;
    let user = exchange(public, 1000).await;
    let has_channels = |now: &Exposition| now.get(&format!("underpass_channels{{{proxy}}}")) == 2.0;
    until(metrics, "both channels", has_channels).await;
    let (open, text) = scrape(metrics).await;
    for (name, value) in [
        (format!("underpass_streams_open{{{service}}}"), 1.0),
        (format!("underpass_streams_opened_total{{{service}}}"), 1.0),
        (format!("underpass_traffic_bytes_total{{{service},direction=\"download\"}}"), 1000.0),
        (format!("underpass_traffic_bytes_total{{{service},direction=\"upload\"}}"), 1000.0),
        (format!("underpass_proxy_connected{{{proxy}}}"), 1.0),
        (format!("underpass_proxy_streams_assigned_total{{{proxy}}}"), 1.0),
        (format!("underpass_proxy_traffic_bytes_total{{{proxy},direction=\"upload\"}}"), 1000.0),
        (format!("underpass_channels{{{proxy}}}"), 2.0),
        (format!("underpass_time_to_first_byte_seconds_count{{{service}}}"), 1.0),
        (format!("underpass_connect_latency_seconds_count{{{service}}}"), 1.0),
        (format!("underpass_stream_duration_seconds_count{{{service}}}"), 0.0),
        ("underpass_ready".to_owned(), 1.0),
    ] {
        assert_eq!(open.get(&name), value, "{name}\n{text}");
    }
    let received = open.get(&format!("underpass_channel_bytes_total{{{proxy},direction=\"received\"}}"));
    assert!(received > 1000.0, "{received}");
    assert!(open.get("underpass_memory_used_bytes") > 0.0);
    assert!(open.get("process_resident_memory_bytes") > 1e6);
    check_with_promtool(&["check", "metrics"], &text);
    let (_, head, body) = request(metrics, "/metrics", "application/openmetrics-text;version=1.0.0").await;
    assert!(head.contains("application/openmetrics-text") && body.ends_with("# EOF\n"), "{head}");
    let (at_proxy, text) = scrape(proxy_metrics).await;
    for (name, value) in [
        (format!("underpass_proxied_streams_open{{{service}}}"), 1.0),
        (format!("underpass_target_traffic_bytes_total{{{service},direction=\"download\"}}"), 1000.0),
        (format!("underpass_target_traffic_bytes_total{{{service},direction=\"upload\"}}"), 1000.0),
        (format!("underpass_target_connect_seconds_count{{{service}}}"), 1.0),
        ("underpass_links_registered_total".to_owned(), 1.0),
        ("underpass_link_channels".to_owned(), 2.0),
    ] {
        assert_eq!(at_proxy.get(&name), value, "{name}\n{text}");
    }
    assert!(at_proxy.get("underpass_link_bytes_total{direction=\"sent\"}") > 1000.0);
    check_with_promtool(&["check", "metrics"], &text);

    drop(user);
    let ended = |now: &Exposition| now.get(&format!("underpass_streams_open{{{service}}}")) == 0.0;
    let ended = until(metrics, "the end of the stream", ended).await;
    for (name, value) in [
        (format!("underpass_stream_duration_seconds_count{{{service}}}"), 1.0),
        (format!("underpass_stream_bytes_bucket{{{service},direction=\"download\",le=\"1000\"}}"), 1.0),
        (format!("underpass_stream_bytes_bucket{{{service},direction=\"download\",le=\"100\"}}"), 0.0),
        (format!("underpass_stream_bytes_sum{{{service},direction=\"upload\"}}"), 1000.0),
        (format!("underpass_traffic_bytes_total{{{service},direction=\"download\"}}"), 1000.0),
    ] {
        assert_eq!(ended.get(&name), value, "{name}");
    }
    let ends: f64 = ended
        .samples
        .iter()
        .filter(|(name, _)| name.starts_with("underpass_stream_ends_total"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(ends, 1.0);
}

/// Its streams name no port.
#[tokio::test]
async fn a_proxy_of_the_text_format_counts_its_streams_by_their_public_port() {
    let echo = target::echo().await;
    let (_server, addr) = Process::server(TOKEN, &[]).await;
    let options = ["--format", "text", "--metrics", "127.0.0.1:0"];
    let mut proxy = Process::proxy(addr, echo.addr, TOKEN, &options);
    let metrics = metrics_of(&mut proxy).await;
    let service = proxy.serves().await;
    let _user = exchange(SocketAddr::new([127, 0, 0, 1].into(), service.port), 1000).await;
    let (now, text) = scrape(metrics).await;
    let name = format!("underpass_proxied_streams_open{{service=\"{service}\"}}");
    assert_eq!(now.samples.get(&name), Some(&1.0), "{text}");
}

/// A scrape after the proxy has gone still has what it carried, and says that it has gone.
#[tokio::test]
async fn a_proxy_that_has_left_keeps_its_series() {
    let echo = target::echo().await;
    let (_server, metrics, mut proxy, _, public) = start(echo.addr).await;
    drop(exchange(public, 1000).await);
    proxy.signal(Signal::Term).await;
    assert_eq!(proxy.exit().await.code(), Some(0), "{}", proxy.output());
    let label = r#"proxy="la\"b\\""#;
    let gone = |now: &Exposition| now.get(&format!("underpass_proxy_connected{{{label}}}")) == 0.0;
    let gone = until(metrics, "the departure of the proxy", gone).await;
    assert_eq!(
        gone.get(&format!("underpass_proxy_traffic_bytes_total{{{label},direction=\"upload\"}}")),
        1000.0
    );
    assert!(gone.get(&format!("underpass_channel_bytes_total{{{label},direction=\"received\"}}")) > 1000.0);
    assert_eq!(gone.get(&format!("underpass_channels{{{label}}}")), 0.0);
}

#[tokio::test]
async fn a_draining_server_is_alive_and_not_ready() {
    let echo = target::echo().await;
    let (mut server, metrics, _proxy, proxy_metrics, public) = start(echo.addr).await;
    for addr in [metrics, proxy_metrics] {
        for path in ["/healthz", "/readyz"] {
            let (status, _, body) = request(addr, path, "*/*").await;
            assert_eq!((status, &body[..]), (200, "ok\n"), "{path}");
        }
    }
    let user = exchange(public, 10).await;
    server.signal(Signal::Term).await;
    server.line("draining").await;
    let (status, _, body) = request(metrics, "/readyz", "*/*").await;
    assert_eq!((status, &body[..]), (503, "draining\n"));
    assert_eq!(request(metrics, "/healthz", "*/*").await.0, 200);
    assert_eq!(request(metrics, "/nothing", "*/*").await.0, 404);
    drop(user);
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

/// A proxy that has no server is alive and not ready.
#[tokio::test]
async fn a_proxy_without_a_server_is_not_ready() {
    let options = ["--plain", "--metrics", "127.0.0.1:0"];
    let mut proxy = Process::proxy("127.0.0.1:1", "127.0.0.1:9", TOKEN, &options);
    let metrics = metrics_of(&mut proxy).await;
    proxy.line("no link to server").await;
    let (status, _, body) = request(metrics, "/readyz", "*/*").await;
    assert_eq!((status, &body[..]), (503, "no link to a server\n"));
    assert_eq!(request(metrics, "/healthz", "*/*").await.0, 200);
    let (now, _) = scrape(metrics).await;
    assert_eq!(now.get("underpass_ready"), 0.0);
}

/// Its link waits for the server with an open stream, for the grace period; no new user is served meanwhile.
#[tokio::test]
async fn a_proxy_whose_server_has_died_is_not_ready() {
    let echo = target::echo().await;
    let (mut server, _, _proxy, metrics, public) = start(echo.addr).await;
    let _user = exchange(public, 10).await;
    server.kill_9().await;
    let refused = async {
        loop {
            let (status, _, body) = request(metrics, "/readyz", "*/*").await;
            if status == 503 {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    // Long before the grace period of 30 s.
    let body = within(std::time::Duration::from_secs(15), "the loss of all channels", refused).await;
    assert_eq!(body, "no channel to a server\n");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_option() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = ["server", "--listen", "127.0.0.1:0", "--no-tui", "--token", TOKEN, "--metrics", &addr];
    let mut server = Process::underpass(&args);
    assert_eq!(server.exit().await.code(), Some(1));
    let output = server.output();
    assert!(output.contains(&format!("cannot listen for scrapers on {addr} (option --metrics)")), "{output}");
}

/// Every metric that the dashboard shows and the rules watch is one that a server or a proxy exposes.
#[tokio::test]
async fn dashboard_and_rules_name_only_metrics_that_exist() {
    let echo = target::echo().await;
    let (_server, metrics, _proxy, proxy_metrics, public) = start(echo.addr).await;
    let _user = exchange(public, 10).await;
    let mut exposed = BTreeSet::new();
    for addr in [metrics, proxy_metrics] {
        exposed.extend(scrape(addr).await.0.names().map(str::to_owned));
    }
    for file in ["grafana.json", "alerts.yml", "alerts_test.yml"] {
        let text = std::fs::read_to_string(format!("{ASSETS}/{file}")).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> = words
            .filter(|word| word.starts_with("underpass_") || word.starts_with("process_"))
            .filter(|word| !word.ends_with("_latency_seconds"))
            .collect();
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.iter().filter(|name| !exposed.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} of {exposed:?}");
    }
}

#[test]
fn the_alert_rules_pass_their_tests() {
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        check_with_promtool(&args, "");
    }
}

/// Runs promtool, if it is installed, with this input.
fn check_with_promtool(args: &[&str], input: &str) {
    if !client::is_installed("promtool", "the strict reader of the tests alone checks the metrics") {
        return;
    }
    let mut command = std::process::Command::new("promtool");
    command
        .args(args)
        .current_dir(ASSETS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {args:?}: {}", String::from_utf8_lossy(&text));
}
