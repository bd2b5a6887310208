//! The PROXY protocol with nginx and HAProxy. These tests are skipped with a message where the program is not
//! installed.

use std::{io::Write, path::Path, process::Stdio};

use super::*;
use crate::support::{
    client::fetch_text,
    process::Process,
    target::free_ports,
    tunnel::{RunningProxy, Tunnel, with_only_service},
};
use tokio::process::Command;
use underpass::{config::ProxyConfig, telemetry::EventKind};

/// A program with a configuration in a directory of its own. Dropping it ends both.
struct Program {
    _process: Process,
    _directory: Directory,
}

/// A directory that is removed when it is dropped.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("underpass-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns whether the program is installed; if not, prints what is not tested.
fn is_installed(program: &str) -> bool {
    let found =
        std::process::Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_found = found.is_ok_and(|status| status.success());
    if !is_found {
        _ = writeln!(
            std::io::stderr(),
            "{program} is not installed: the PROXY protocol is not tested with it"
        );
    }
    is_found
}

/// Starts `program` with this configuration, and waits until it listens on `port`.
async fn start(program: &str, port: u16, configuration: String) -> Program {
    let directory = Directory::new();
    let file = directory.0.join("configuration");
    std::fs::write(&file, configuration).unwrap();
    let process = Process::spawn(command(program, &directory.0, &file));
    soon("it listens", async {
        while TcpStream::connect((LOOPBACK.ip(), port)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    Program { _process: process, _directory: directory }
}

fn command(program: &str, directory: &Path, file: &Path) -> Command {
    let mut command = Command::new(program);
    match program {
        "nginx" => command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file),
        _ => command.arg("-db").arg("-f").arg(file),
    };
    command
}

/// Starts nginx, which expects a header and answers with the addresses in it.
async fn nginx() -> (Program, SocketAddr) {
    let [port] = free_ports();
    let configuration = format!(
        "daemon off; master_process off; pid nginx.pid;
         events {{ }}
         http {{
           access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
           uwsgi_temp_path uwsgi; scgi_temp_path scgi;
           server {{
             listen 127.0.0.1:{port} proxy_protocol;
             location / {{ return 200 \"$proxy_protocol_addr:$proxy_protocol_port \
         $proxy_protocol_server_addr:$proxy_protocol_server_port\"; }}
           }}
         }}"
    );
    (start("nginx", port, configuration).await, SocketAddr::new(LOOPBACK.ip(), port))
}

/// Starts HAProxy, which expects a header and answers with the addresses in it.
async fn haproxy() -> (Program, SocketAddr) {
    let [port] = free_ports();
    let configuration = format!(
        "defaults
           mode http
           timeout client 30s
           timeout server 30s
           timeout connect 30s
         frontend target
           bind 127.0.0.1:{port} accept-proxy
           http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port]\"\n"
    );
    (start("haproxy", port, configuration).await, SocketAddr::new(LOOPBACK.ip(), port))
}

/// Sends a request from a connection of its own. Returns the address of the connection and the body of the response.
async fn request(server: SocketAddr) -> (SocketAddr, String) {
    let mut socket = soon("a connection", TcpStream::connect(server)).await.unwrap();
    let from = socket.local_addr().unwrap();
    (from, fetch_text(&mut socket, "/").await)
}

#[tokio::test]
async fn nginx_sees_the_user() {
    if is_installed("nginx") {
        let (_program, target) = nginx().await;
        target_sees_the_user(target).await;
    }
}

#[tokio::test]
async fn haproxy_sees_the_user() {
    if is_installed("haproxy") {
        let (_program, target) = haproxy().await;
        target_sees_the_user(target).await;
    }
}

/// Sends requests through proxies of each version to a target that answers with the addresses of the header.
async fn target_sees_the_user(target: SocketAddr) {
    let mut tunnel = Tunnel::start().await;
    for version in VERSIONS {
        let config =
            with_only_service(tunnel.proxy_config(target), |service| service.proxy_protocol = Some(version));
        let public = tunnel.proxy_with(config).await;
        let (user, seen) = request(public).await;
        assert_eq!(seen, format!("{user} {public}"), "{version:?}");
    }
    tunnel.end().await;
}

/// Starts HAProxy in front of a public port and of the tunnel port, with health checks that send LOCAL.
async fn haproxy_in_front_of(
    public: SocketAddr,
    tunnel: SocketAddr,
    send: &str,
) -> (Program, [SocketAddr; 2]) {
    let ports = free_ports();
    let listen = |index: usize, server: SocketAddr| {
        format!(
            "listen l{index}
               bind 127.0.0.1:{}
               server s {server} {send} source 127.0.0.2 check check-send-proxy inter 50\n",
            ports[index]
        )
    };
    let configuration = format!(
        "defaults
           mode tcp
           timeout client 30s
           timeout server 30s
           timeout connect 30s
         {} {}",
        listen(0, public),
        listen(1, tunnel)
    );
    let program = start("haproxy", ports[0], configuration).await;
    (program, ports.map(|port| SocketAddr::new(LOOPBACK.ip(), port)))
}

#[tokio::test]
async fn haproxy_in_front_names_users_and_proxies() {
    if !is_installed("haproxy") {
        return;
    }
    let target = HeaderTarget::new().await;
    let mut tunnel = trusting().await;
    let config = with_only_service(tunnel.proxy_config(target.addr()), |service| {
        service.proxy_protocol = Some(ProxyProtocolVersion::V2)
    });
    let public = tunnel.proxy_with(config).await;
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let (_haproxy, [front, front_tunnel]) = haproxy_in_front_of(public, tunnel.addr, send).await;
        // A connection of `start` and health checks of version 1 reach the target, too.
        let user = TcpStream::connect(front).await.unwrap();
        let wanted = relayed(user.local_addr().unwrap(), front);
        while target.accept().await.0 != wanted {}
        // A proxy behind it has the address from which it connects to HAProxy.
        let service = "0".parse().unwrap();
        let behind =
            ProxyConfig::new("", service, target.addr().to_string()).with_server(front_tunnel.to_string());
        let known = tunnel.telemetry.snapshot().proxies.len();
        let mut proxy = RunningProxy::start(
            behind.with_tls(tunnel.proxy_config(target.addr()).servers[0].tls.clone()),
            tunnel.token.clone(),
        );
        proxy.serves().await;
        let snapshot = tunnel.until("it is connected", |s| s.proxies.len() > known).await;
        let is_through_haproxy = |addr: &SocketAddr| addr.ip() == LOOPBACK.ip();
        let channels: Vec<_> =
            snapshot.proxies.iter().flat_map(|proxy| &proxy.channels).map(|c| c.addr).collect();
        assert!(channels.iter().all(is_through_haproxy), "{channels:?}: 127.0.0.2 is HAProxy's");
        drop(user);
        proxy.stop().await;
        tunnel.until("it is gone", |s| s.proxies.len() == known).await;
    }
    // The last channel of a proxy may be in its handshake when the proxy is stopped; that is the proxy's.
    let is_check = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { addr, .. } if addr.ip() != LOOPBACK.ip());
    let failures: Vec<_> = tunnel.events().into_iter().filter(is_check).collect();
    assert!(failures.is_empty(), "health checks are quiet: {failures:?}");
    assert_eq!(tunnel.telemetry.snapshot().totals.users_rejected, 0);
    // A health check of the moment at which HAProxy was ended waits for the target, which accepts no more.
    drop(target);
    tunnel.end().await;
}

#[tokio::test]
async fn nginx_in_front_names_the_user() {
    if !is_installed("nginx") {
        return;
    }
    let modules = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"]
        .map(|dir| format!("{dir}/ngx_stream_module.so"));
    let Some(module) = modules.iter().find(|module| Path::new(module).exists()) else {
        return eprintln!("nginx has no stream module: the PROXY protocol is not tested with it in front");
    };
    let target = HeaderTarget::new().await;
    let mut tunnel = trusting().await;
    let config = with_only_service(tunnel.proxy_config(target.addr()), |service| {
        service.proxy_protocol = Some(ProxyProtocolVersion::V1)
    });
    let public = tunnel.proxy_with(config).await;
    let [port] = free_ports();
    let configuration = format!(
        "load_module {module}; daemon off; master_process off; pid nginx.pid;
         events {{ }}
         stream {{
           server {{
             listen 127.0.0.1:{port}; proxy_pass {public}; proxy_protocol on; proxy_bind 127.0.0.2;
           }}
         }}"
    );
    let _nginx = start("nginx", port, configuration).await;
    let front = SocketAddr::new(LOOPBACK.ip(), port);
    let user = TcpStream::connect(front).await.unwrap();
    let wanted = relayed(user.local_addr().unwrap(), front);
    while target.accept().await.0 != wanted {}
    drop(user);
    tunnel.end().await;
}

/// Starts a server that trusts load balancers at 127.0.0.2.
async fn trusting() -> Tunnel {
    Tunnel::with(|config| {
        config.trusted_balancers = underpass::ids::NetworkSet::new(["127.0.0.2".parse().unwrap()]);
    })
    .await
}
