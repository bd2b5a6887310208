//! What a service manager hears of real processes, and what they inherit from it.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram as StdDatagram},
    path::PathBuf,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixDatagram},
    process::Command,
};

use crate::support::{
    client,
    process::{Process, Signal, TOKEN},
    soon, target,
};

/// A server on free ports.
const SERVER: [&str; 8] =
    ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];

/// The service manager's end of the notifications. Dropping it removes its socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// Everything that was received.
    heard: Vec<String>,
}

impl Manager {
    /// Opens a socket for notifications.
    fn open(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("underpass-{name}-{}", std::process::id()));
        _ = std::fs::remove_file(&path);
        let socket = StdDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixDatagram::from_std(socket).unwrap(), path, heard: Vec::new() }
    }

    /// Starts underpass as its service.
    fn start(&self, args: &[&str], watchdog_us: Option<u64>) -> Process {
        Process::underpass_with(args, |command| {
            command.env("NOTIFY_SOCKET", &self.path);
            if let Some(time) = watchdog_us {
                command.env("WATCHDOG_USEC", time.to_string());
            }
        })
    }

    /// Waits for a message with a line that begins with `line`. Returns the message.
    async fn hears(&mut self, line: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = soon(line, self.socket.recv(&mut message)).await.unwrap();
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.lines().any(|heard| heard.starts_with(line)) {
                return message;
            }
        }
    }

    /// Returns whether a message with this line was received.
    fn has_heard(&self, line: &str) -> bool {
        self.heard.iter().any(|message| message.lines().any(|heard| heard.starts_with(line)))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

#[tokio::test]
async fn a_server_is_ready_once_it_listens_and_reports_its_end() {
    let mut manager = Manager::open("ready");
    let mut server = manager.start(&SERVER, None);
    manager.hears("READY=1").await;
    // Its port is open, whatever has been logged yet.
    let addr = server.listens().await;
    drop(TcpStream::connect(addr).await.unwrap());
    manager.hears("STATUS=").await;
    assert!(!manager.has_heard("STOPPING=1") && !manager.has_heard("WATCHDOG=1"), "{:?}", manager.heard);
    server.signal(Signal::Term).await;
    manager.hears("STOPPING=1").await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

/// The units allow for the default drain timeout only: systemd kills what takes longer, unless it is told.
#[tokio::test]
async fn a_drain_longer_than_the_default_is_announced() {
    let mut manager = Manager::open("drain");
    let args = [&SERVER[..], &["--drain", "7200"]].concat();
    let mut server = manager.start(&args, None);
    manager.hears("READY=1").await;
    // An open stream, without which the process ends at once and says no more than that.
    let echo = target::echo().await;
    let (addr, to) = (server.listens().await.to_string(), echo.addr.to_string());
    let args = ["proxy", "--server", &addr, "--port", "0", "--to", &to, "--token", TOKEN];
    let mut proxy = Process::underpass(&args);
    let port = proxy.serves().await.port;
    let mut user = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    user.write_all(b"hello").await.unwrap();
    soon("the echo", user.read_exact(&mut [0; 5])).await.unwrap();
    server.signal(Signal::Term).await;
    let message = manager.hears("STOPPING=1").await;
    drop(user);
    let extended = message.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let extended = extended.map(|time| time.parse::<u64>().unwrap());
    assert!(extended.is_some_and(|time| time > 7_200_000_000), "{message}");
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

/// A proxy that no server has registered carries nothing, so that it is not ready.
#[tokio::test]
async fn a_proxy_is_ready_once_it_is_registered() {
    let mut manager = Manager::open("registered");
    // Nothing listens there until the server does.
    let [late] = target::free_ports();
    let late_server = format!("127.0.0.1:{late}");
    let args = [
        "proxy",
        "--server",
        &late_server,
        "--port",
        "0",
        "--to",
        "127.0.0.1:9",
        "--token",
        TOKEN,
        "--name",
        "lab",
    ];
    let mut proxy = manager.start(&args, None);
    manager.hears("STATUS=no link to a server").await;
    assert!(!manager.has_heard("READY=1"), "{:?}", manager.heard);
    let listen = ["server", "--listen", &late_server, "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];
    let mut server = Process::underpass(&listen);
    server.listens().await;
    manager.hears("READY=1").await;
    let port = proxy.serves().await.port;
    manager.hears(&format!("STATUS=serving {port}:default")).await;
    proxy.signal(Signal::Term).await;
    manager.hears("STOPPING=1").await;
    assert_eq!(proxy.exit().await.code(), Some(0), "{}", proxy.output());
}

#[tokio::test]
async fn the_watchdog_hears_from_a_process_that_works() {
    let mut manager = Manager::open("watchdog");
    let mut server = manager.start(&SERVER, Some(100_000));
    for _ in 0..5 {
        manager.hears("WATCHDOG=1").await;
    }
    // Stopped: none of its threads runs, and none may say that it works.
    server.signal(Signal::Stop).await;
    let pid = server.pid();
    let is_stopped =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") T "));
    soon("the stop", async {
        while !is_stopped() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    while manager.socket.try_recv(&mut [0; 4096]).is_ok() {}
    let silence =
        tokio::time::timeout(std::time::Duration::from_millis(300), manager.hears("WATCHDOG=1")).await;
    assert!(silence.is_err(), "{:?}", manager.heard);
    server.signal(Signal::Cont).await;
    manager.hears("WATCHDOG=1").await;
    server.signal(Signal::Term).await;
    manager.hears("STOPPING=1").await;
    server.exit().await;
}

/// SIGHUP, which systemd sends for `systemctl reload`.
#[tokio::test]
async fn a_reload_is_reported_with_its_time_and_its_end() {
    let mut manager = Manager::open("reload");
    // As a service: a server with a controlling terminal takes SIGHUP for the end of that.
    let mut server =
        Process::service_with(&SERVER, |command| _ = command.env("NOTIFY_SOCKET", &manager.path));
    manager.hears("READY=1").await;
    server.signal(Signal::Hup).await;
    let message = manager.hears("RELOADING=1").await;
    let time = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(time.is_some_and(|time| time.parse::<u64>().unwrap() > 0), "{message}");
    manager.hears("READY=1").await;
    server.signal(Signal::Term).await;
    server.exit().await;
}

/// The exposure that `systemd-analyze` computes for the units of the system, in tenths.
const MAX_EXPOSURE: &str = "--threshold=20";

#[test]
fn the_units_of_the_system_stay_hardened() {
    if !client::is_installed("systemd-analyze", "the exposure of the units is not checked") {
        return;
    }
    // That of a template is computed for an instance, and not without installing it.
    for unit in ["underpass-server.service", "underpass-proxy.service"] {
        let mut command = std::process::Command::new("systemd-analyze");
        let unit = format!("{}/assets/systemd/{unit}", env!("CARGO_MANIFEST_DIR"));
        let output = command.args(["security", "--offline=true", MAX_EXPOSURE, &unit]).output().unwrap();
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Reads a unit of the system without its comments, but for lines that begin with one of `without`.
fn unit(name: &str, without: &[&str]) -> Vec<String> {
    let path = format!("{}/assets/systemd/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter(|line| !without.iter().any(|without| line.starts_with(without))).map(str::to_owned).collect()
}

#[test]
fn the_template_of_the_server_differs_from_its_unit_where_it_has_to() {
    let without = ["Description=", "ExecStart=", "Environment="];
    let (unit, template) =
        (unit("underpass-server.service", &without), unit("underpass-server@.service", &without));
    assert!(unit.len() > 40 && unit == template, "{unit:#?}\n{template:#?}");
}

/// `systemctl reload` fails with the reason only if a command of the unit waits for the result; that command and the
/// service have to agree on the control socket.
#[test]
fn the_units_reload_through_the_control_socket_that_they_name() {
    let names = [("server", "server"), ("proxy", "proxy"), ("server@", "%i")];
    let units = names.map(|(unit, name)| (format!("underpass-{unit}.service"), name));
    let of_users = units[..2].iter().map(|(unit, name)| (format!("user/{unit}"), *name));
    for (file, name) in units.iter().cloned().chain(of_users) {
        let lines = unit(&file, &[]);
        for expected in [
            "ExecReload=/usr/bin/underpass reload".to_owned(),
            format!("Environment=UNDERPASS_CONTROL={name}"),
        ] {
            assert!(lines.contains(&expected), "{file}: {expected}: {lines:#?}");
        }
    }
}

/// Runs a server that inherits `socket` as descriptor 3, as a service manager passes it.
fn activated(socket: OwnedFd, names: &str) -> Process {
    let script = format!(
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names} exec '{}' \"$@\"",
        env!("CARGO_BIN_EXE_underpass")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", "server", "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN]);
    Process::spawn_with_input(command, socket.into())
}

/// The first connection is made before the server runs: it waits in the backlog.
#[tokio::test]
async fn an_inherited_socket_is_the_tunnel_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let echo = target::echo().await;
    let (server, to) = (addr.to_string(), echo.addr.to_string());
    let mut proxy =
        Process::underpass(&["proxy", "--server", &server, "--port", "0", "--to", &to, "--token", TOKEN]);
    let mut server = activated(listener.into(), "tunnel");
    assert_eq!(server.listens().await, addr);
    let public = SocketAddr::new(addr.ip(), proxy.serves().await.port);
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    user.write_all(b"hello").await.unwrap();
    soon("the echo", user.read_exact(&mut [0; 5])).await.unwrap();
    drop(user);
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn an_inherited_descriptor_that_does_not_listen_is_named() {
    let socket = StdDatagram::unbound().unwrap();
    let mut server = activated(socket.into(), "wrong");
    assert_eq!(server.exit().await.code(), Some(1), "{}", server.output());
    let output = server.output();
    assert!(output.contains("descriptor 3 (wrong) is no TCP socket"), "{output}");
}
