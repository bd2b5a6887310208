//! Cockpits of another process, and of a recording: a real server, a real proxy, and a stream of 100 KB/s.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::terminal::{LONG, TOKEN, Terminal};

/// A process that is killed at the end, and the lines that it writes.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn underpass(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_underpass"))
            .args(args)
            .args(["--token", TOKEN])
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("UNDERPASS_CONTROL", "off")
            .env("STATE_DIRECTORY", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for a line with this text, and returns what follows it.
    fn after(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(LONG) else { panic!("no «{text}» in {seen:#?}") };
            if let Some((_, rest)) = line.split_once(text) {
                return rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            seen.push(line);
        }
    }

    fn terminate(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A server with a proxy, and a user that downloads from a target of 100 KB/s.
struct Tunnel {
    server: Process,
    _proxy: Process,
    /// The address of the tunnel port.
    listen: String,
    _user: TcpStream,
}

impl Tunnel {
    /// Starts all of it. The server has these arguments, too.
    fn start(more: &[&str]) -> Self {
        Self::start_both(more, &[])
    }

    /// Starts all of it. The server and the proxy have these arguments, too.
    fn start_both(more: &[&str], of_proxy: &[&str]) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = target.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for connection in target.incoming().map_while(Result::ok) {
                thread::spawn(move || send_steadily(connection));
            }
        });
        let args = ["server", "--no-tui", "--plain", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1"];
        let server = Process::underpass(&[&args, more].concat());
        let listen = server.after("listening for proxies on ");
        let args = ["proxy", "--plain", "--server", &listen, "--port", "0", "--to", &to];
        let proxy = Process::underpass(&[&args, of_proxy].concat());
        let service = server.after("registered for service ");
        let port: u16 = service.split(':').next().unwrap().parse().unwrap();
        let mut user = TcpStream::connect(("127.0.0.1", port)).unwrap();
        user.write_all(b"GET /slow HTTP/1.1\r\n\r\n").unwrap();
        let mut first = [0; 1];
        user.read_exact(&mut first).unwrap();
        let mut reader = user.try_clone().unwrap();
        thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Self { server, _proxy: proxy, listen, _user: user }
    }
}

fn send_steadily(mut connection: TcpStream) {
    while connection.write_all(&[b'x'; 5_000]).is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the path of a file or directory of this test, which does not exist.
fn own_path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("underpass-{name}-{}", std::process::id()));
    _ = fs::remove_dir_all(&path);
    _ = fs::remove_file(&path);
    path
}

/// What a replay shows is what the server was asked to record: a stream, its rate, and its end.
#[test]
fn a_recording_is_replayed_in_the_cockpit() {
    let dir = own_path("record");
    let path = dir.to_str().unwrap();
    let mut tunnel = Tunnel::start(&["--control", "off", "--drain", "0", "--record", path]);
    // As many states as a rate needs.
    thread::sleep(Duration::from_millis(3500));
    tunnel.server.terminate();
    drop(tunnel);

    let terminal = Terminal::underpass(&["replay", path], (160, 40), &[]);
    terminal.until("the recorded stream", |screen| {
        let text = screen.contents();
        (text.contains("replay 1×") && text.contains("OPEN") && text.contains("1 open")).then_some(())
    });
    terminal.press(" ");
    terminal.until_shows("replay paused");
    // Nothing moves any more, and nothing can be changed.
    terminal.press("x");
    terminal.until_shows("a recording cannot be changed");
    terminal.fill(":", "seek end");
    terminal.until("the end of the stream", |screen| {
        let text = screen.contents();
        (text.contains("0 open") && text.contains("server shutdown")).then_some(())
    });
    terminal.fill(":", "seek start");
    terminal
        .until("the begin again", |screen| (!screen.contents().contains("server shutdown")).then_some(()));
    terminal.fill(":", "next refusal");
    terminal.until_shows("no later event of this kind");
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
    terminal.until_sane();
    // It said that the log follows, which a recording does not have, and then that there is no terminal.
    let dumb = Terminal::underpass(&["replay", path], (160, 40), &[("TERM", "dumb")]);
    dumb.until("why there is no cockpit", |screen| {
        let text = screen.contents();
        assert!(!text.contains("the log follows"), "{text}");
        text.contains("no cockpit here, because the terminal cannot position its cursor").then_some(())
    });
    assert_eq!(dumb.exit().0, 1);
    fs::remove_dir_all(dir).unwrap();
}

/// Waits until the cockpit shows the one stream of the tunnel.
fn until_streaming(terminal: &Terminal) {
    terminal.until("the stream with its rate", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains("OPEN"))?;
        (text.contains("1 open") && row.contains("K")).then_some(())
    });
}

/// Several operators look at one server; one of them acts, and another may only look. Detaching ends nothing.
#[test]
fn attached_cockpits_show_the_server_act_on_it_and_leave_it_running() {
    let socket = own_path("attach.sock");
    let path = socket.to_str().unwrap();
    let mut tunnel = Tunnel::start(&["--control", path]);
    let operator = Terminal::underpass(&["attach", path], (160, 40), &[]);
    let reader = Terminal::underpass(&["attach", path, "--read-only"], (160, 40), &[]);
    until_streaming(&operator);
    until_streaming(&reader);
    reader.press("p");
    reader.until_shows("this cockpit is read-only");
    operator.press("p");
    for terminal in [&operator, &reader] {
        terminal.until_shows("PAUSED");
    }
    operator.press("p");
    until_streaming(&operator);
    for terminal in [&operator, &reader] {
        terminal.press("q");
        assert_eq!(terminal.exit().0, 0);
        terminal.until_sane();
        assert!(terminal.text().contains("the server continues"), "{}", terminal.text());
    }
    assert!(tunnel.server.child.try_wait().unwrap().is_none(), "the server runs");
    drop(tunnel);
    _ = fs::remove_file(socket);
}

/// The log of an attached cockpit begins with what was refused before, at the time when it was.
#[test]
fn an_attached_cockpit_has_the_refusals_from_before_it_was_attached() {
    let socket = own_path("history.sock");
    let path = socket.to_str().unwrap();
    let tunnel = Tunnel::start(&["--control", path]);
    let scan = TcpStream::connect(&tunnel.listen).unwrap();
    (&scan).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(scan);
    tunnel.server.after("to the tunnel port ");
    let terminal = Terminal::underpass(&["attach", path], (160, 40), &[]);
    until_streaming(&terminal);
    terminal.press("4");
    terminal.until_shows("to the tunnel port");
    drop(tunnel);
    _ = fs::remove_file(socket);
}

/// A proxy has the same screens about its servers and streams, without what only a server knows.
#[test]
fn an_attached_cockpit_shows_a_proxy_and_acts_on_its_streams() {
    let socket = own_path("proxy.sock");
    let path = socket.to_str().unwrap();
    let tunnel = Tunnel::start_both(&["--control", "off"], &["--control", path]);
    let terminal = Terminal::underpass(&["attach", path], (160, 40), &[]);
    until_streaming(&terminal);
    let text = terminal.text();
    assert!(text.contains("1 server") && text.contains("SERVER") && text.contains("2 Servers"), "{text}");
    for unknown in ["CONTENT", "PRIO", "imbalance", "round-robin"] {
        assert!(!text.contains(unknown), "{unknown}: {text}");
    }
    terminal.press("p");
    // The row is shown as paused at once, and as open again where a state of before the command arrives after that. The
    // log comes before the state that follows it.
    terminal.until("the pause, executed", |screen| {
        let text = screen.contents();
        (text.contains("PAUSED") && text.contains("operator: pause stream")).then_some(())
    });
    terminal.press("p");
    until_streaming(&terminal);
    terminal.press("l");
    terminal.until_shows("a proxy cannot do it; attach to its server");
    terminal.press("2");
    terminal.press("\r");
    terminal.until("the channels of the link", |screen| {
        let text = screen.contents();
        (text.contains("P1/1")
            && text.contains("RTT")
            && text.contains(&tunnel.listen)
            && !text.contains("WEIGHT"))
        .then_some(())
    });
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
    assert!(terminal.text().contains("the proxy continues"), "{}", terminal.text());
    drop(tunnel);
    _ = fs::remove_file(socket);
}

/// The figures of the server before it are gone, and nothing has to be pressed.
#[test]
fn an_attached_cockpit_finds_a_restarted_server_again() {
    let socket = own_path("again.sock");
    let path = socket.to_str().unwrap();
    let mut tunnel = Tunnel::start(&["--control", path]);
    let terminal = Terminal::underpass(&["attach", path], (160, 40), &[]);
    until_streaming(&terminal);
    tunnel.server.child.kill().unwrap();
    tunnel.server.child.wait().unwrap();
    terminal.until_shows("reconnecting…");
    let args = ["server", "--no-tui", "--plain", "--listen", &tunnel.listen, "--bind", "127.0.0.1"];
    let _server = Process::underpass(&[&args[..], &["--control", path]].concat());
    terminal.until("the new server", |screen| {
        let text = screen.contents();
        (!text.contains("reconnecting…") && !text.contains("OPEN") && text.contains("0 open")).then_some(())
    });
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
    _ = fs::remove_file(socket);
}

/// `attach ssh HOST` runs the relay there. A script stands for ssh.
#[test]
fn a_server_on_another_machine_is_attached_through_ssh() {
    use std::os::unix::fs::PermissionsExt as _;
    let (socket, ssh) = (own_path("ssh.sock"), own_path("ssh.sh"));
    let path = socket.to_str().unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != underpass ]; do shift; done; shift\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_underpass")
    );
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let tunnel = Tunnel::start(&["--control", path]);
    let environment = [("UNDERPASS_SSH", ssh.to_str().unwrap())];
    let terminal = Terminal::underpass(&["attach", "ssh", "example.net", path], (160, 40), &environment);
    until_streaming(&terminal);
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit().0, 0);
    drop(tunnel);
    _ = (fs::remove_file(socket), fs::remove_file(ssh));
}
