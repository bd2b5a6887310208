//! The PROXY protocol with nginx and HAProxy. These tests are skipped with a message where the program is not installed.

use std::{io::Write, path::Path, process::Stdio};

use super::*;
use crate::support::{client::fetch_text, process::Process, tunnel::Tunnel};
use tokio::process::Command;
use underpass::config::ProxyConfig;

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

/// Returns a port that was free a moment ago: neither program can listen on port 0 and say what it got.
fn free_port() -> u16 {
    std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap().port()
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
    let port = free_port();
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
    let port = free_port();
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
        let config = ProxyConfig { proxy_protocol: Some(version), ..tunnel.proxy_config(target) };
        let public = tunnel.proxy_with(config).await;
        let (user, seen) = request(public).await;
        assert_eq!(seen, format!("{user} {public}"), "{version:?}");
    }
    tunnel.end().await;
}
