//! The server as a job of an interactive shell: in the background, stopped and continued, and outliving its terminal.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use portable_pty::CommandBuilder;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    exclusive,
    terminal::{LONG, Terminal},
};

/// Arguments of a server on a free port.
const SERVER: &str = "server --listen 127.0.0.1:0 --bind 127.0.0.1 --token vK8dR2xQ9mWz4LpT7cYb";

/// Starts an interactive shell with job control.
fn shell() -> Terminal {
    let mut shell = CommandBuilder::new("/bin/bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell.env("PS1", "ready> ");
    let terminal = Terminal::run(shell, (120, 36));
    terminal.until_shows("ready> ");
    terminal
}

/// Runs the program with these arguments, redirections and `&` in the shell.
fn run(terminal: &Terminal, command: &str) {
    terminal.press(&format!("{} {command}\n", env!("CARGO_BIN_EXE_underpass")));
}

/// Returns the first address on loopback in a text.
fn address(text: &str) -> Option<SocketAddr> {
    let begin = text.find("127.0.0.1:")?;
    let text = &text[begin..];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(text.len());
    text[..end].parse().ok().filter(|addr: &SocketAddr| addr.port() > 0)
}

/// Returns whether a screen shows the cockpit.
fn is_cockpit(screen: &vt100::Screen) -> bool {
    screen.alternate_screen() && screen.contents().contains("open")
}

/// Waits for the cockpit. Returns the address of the tunnel port in it.
fn until_cockpit(terminal: &Terminal) -> SocketAddr {
    terminal.until("the cockpit", |screen| address(&screen.contents()).filter(|_| is_cockpit(screen)))
}

/// Asserts that the server on this tunnel port runs: it answers what is no handshake by closing the connection.
fn assert_serves(addr: SocketAddr) {
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(b"nonsense\n").unwrap();
    if let Err(error) = client.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

/// Using the terminal from the background stopped the server (SIGTTOU) with its port open.
#[test]
fn in_the_background_the_server_logs_instead_of_showing_the_cockpit() {
    let _exclusive = exclusive();
    let terminal = shell();
    // With this setting even a line on stderr would stop it.
    terminal.press("stty tostop\n");
    run(&terminal, &format!("{SERVER} &"));
    terminal.until_shows("started in the background of the terminal");
    let line = "listening for proxies on ";
    let addr = terminal.until(line, |screen| address(screen.contents().split(line).nth(1)?));
    assert_serves(addr);
    terminal.press("jobs\n");
    terminal.until_shows("Running");
    terminal.press("kill %1; wait %1; echo ended with $?\n");
    terminal.until_shows("ended with 0");
    terminal.press("exit 7\n");
    assert_eq!(terminal.exit().0, 7);
}

#[test]
fn bg_continues_the_server_without_the_cockpit_and_fg_brings_it_back() {
    let _exclusive = exclusive();
    let terminal = shell();
    run(&terminal, SERVER);
    let addr = until_cockpit(&terminal);
    terminal.press("\x1a");
    terminal.until("the shell", |screen| {
        (!screen.alternate_screen() && screen.contents().trim_end().ends_with("ready>")).then_some(())
    });
    terminal.press("bg\n");
    // The cockpit used to take the terminal again, for which the kernel stopped the process at once.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        assert_serves(addr);
    }
    terminal.press("echo $((40+2))\n");
    terminal.until("an answer", |screen| screen.contents().lines().any(|l| l.trim() == "42").then_some(()));
    terminal.press("fg\n");
    terminal.until("the cockpit again", |screen| is_cockpit(screen).then_some(()));
    terminal.press("q");
    terminal.until("the shell again", |screen| (!screen.alternate_screen()).then_some(()));
    terminal.press("exit 7\n");
    assert_eq!(terminal.exit().0, 7);
}

/// A process that is stopped with SIGSTOP cannot restore the terminal. Continued in the background, it must not try to
/// at its end: the kernel would stop it (SIGTTOU) with its ports open.
#[test]
fn a_server_that_was_stopped_and_continued_in_the_background_ends_at_sigterm() {
    let _exclusive = exclusive();
    let terminal = shell();
    run(&terminal, SERVER);
    terminal.until("the cockpit", |screen| is_cockpit(screen).then_some(()));
    // The shell is the parent, and the only process whose child this is.
    let children = format!("/proc/{0}/task/{0}/children", terminal.pid());
    let pid = std::fs::read_to_string(children).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    terminal.until_shows("Stopped");
    terminal.press("bg\n");
    terminal.press("kill %1; wait %1; echo ended with $?\n");
    terminal.until_shows("ended with 0");
    terminal.press("exit 7\n");
    assert_eq!(terminal.exit().0, 7);
}

/// Closing the terminal drained and ended the server.
#[test]
fn under_nohup_the_server_outlives_its_terminal() {
    let _exclusive = exclusive();
    let mut terminal = shell();
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nohup.log");
    _ = std::fs::remove_file(&log);
    let program = env!("CARGO_BIN_EXE_underpass");
    terminal.press(&format!("nohup {program} {SERVER} >{} 2>&1 &\necho pid $! .\n", log.display()));
    let pid = terminal.until("the pid", |screen| {
        let contents = screen.contents();
        let line = contents.lines().find(|line| line.starts_with("pid ") && line.ends_with(" ."))?;
        line.split(' ').nth(1)?.parse().ok().and_then(Pid::from_raw)
    });
    let deadline = Instant::now() + LONG;
    let until_logged = |line: &str| loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains(line) {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::yield_now();
    };
    let line = "listening for proxies on ";
    let addr = address(until_logged(line).split(line).nth(1).unwrap()).unwrap();
    terminal.close();
    // The shell hangs up its jobs before it ends.
    terminal.exit();
    assert_serves(addr);
    kill_process(pid, Signal::TERM).unwrap();
    let log = until_logged("server ended");
    assert_eq!(log.matches("draining").count(), 1, "{log}");
}

/// Ends the server with this control socket at the end of a test.
struct Ended(PathBuf);

impl Ended {
    fn shut_down(&self) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_underpass"));
        command.args(["shutdown", "--now", "--control"]).arg(&self.0).output().unwrap()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Waits until the server with this control socket is shown by an attached cockpit, detaches from it, and ends the
/// server.
fn assert_attached_and_ended(server: &Ended, addr: SocketAddr) {
    assert_serves(addr);
    let attached = Terminal::underpass(&["attach", server.0.to_str().unwrap()], (120, 36), &[]);
    attached.until("the server again", |screen| {
        (screen.alternate_screen() && screen.contents().contains("0 open")).then_some(())
    });
    // What `q` does: no stream is open.
    attached.fill(":", "detach");
    assert_eq!(attached.exit().0, 0);
    assert!(attached.text().contains("the server continues"), "{}", attached.text());
    assert_serves(addr);
    assert!(server.shut_down().status.success());
    let deadline = Instant::now() + LONG;
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < deadline, "the server ends");
        std::thread::yield_now();
    }
}

/// Returns the path of a control socket of this test.
fn control_socket(name: &str) -> Ended {
    let path = std::env::temp_dir().join(format!("up-{}-{name}.sock", std::process::id()));
    _ = std::fs::remove_file(&path);
    Ended(path)
}

#[test]
fn detach_returns_to_the_shell_and_the_server_outlives_the_terminal() {
    let _exclusive = exclusive();
    let server = control_socket("detach");
    let mut terminal = shell();
    run(&terminal, &format!("{SERVER} --plain --control {}", server.0.display()));
    let addr = until_cockpit(&terminal);
    terminal.fill(":", "detach");
    terminal.until("the line and the prompt", |screen| {
        let text = screen.contents();
        let said = text.contains("detached; the server (pid") && text.contains("underpass attach");
        (said && !screen.alternate_screen() && text.trim_end().ends_with("ready>")).then_some(())
    });
    // The server runs on, in the background: the shell answers, and so does the server.
    terminal.press("echo $((40+2))\n");
    terminal.until("an answer", |screen| screen.contents().lines().any(|l| l.trim() == "42").then_some(()));
    assert_serves(addr);
    terminal.press("jobs\n");
    terminal.until_shows("Running");
    terminal.close();
    // The shell hangs up its jobs before it ends.
    terminal.exit();
    assert_attached_and_ended(&server, addr);
}

/// Without a shell nobody takes the terminal; its end is ignored all the same.
#[test]
fn detach_without_a_shell_leaves_the_server_running() {
    let _exclusive = exclusive();
    let server = control_socket("alone");
    let mut terminal = Terminal::underpass(
        &[&SERVER.split(' ').collect::<Vec<_>>()[..], &["--plain", "--control", server.0.to_str().unwrap()]]
            .concat(),
        (120, 36),
        &[],
    );
    let addr = until_cockpit(&terminal);
    terminal.fill(":", "detach");
    terminal.until_shows("detached; the server (pid");
    terminal.until_sane();
    terminal.close();
    assert_attached_and_ended(&server, addr);
}

/// A server that nothing could show again stays in its terminal.
#[test]
fn detach_is_refused_without_a_control_socket() {
    let _exclusive = exclusive();
    let terminal = crate::demo((120, 36), &[]);
    terminal.fill(":", "detach");
    terminal.until_shows("cannot detach: without a control socket");
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn a_terminal_that_cannot_show_the_cockpit_gets_the_log_and_a_line_that_says_why() {
    let _exclusive = exclusive();
    let program = env!("CARGO_BIN_EXE_underpass");
    for (setup, why) in [
        ("TERM=dumb", "TERM is dumb"),
        ("unset TERM", "TERM is not set"),
        ("stty rows 0 cols 0", "the terminal does not report its size"),
    ] {
        let mut shell = CommandBuilder::new("/bin/sh");
        shell.args(["-c", &format!("{setup}; exec '{program}' {SERVER}")]);
        let terminal = Terminal::run(shell, (120, 36));
        terminal.until_shows(why);
        terminal.until_shows("listening for proxies on ");
        terminal.press("\x03");
        assert_eq!(terminal.exit().0, 0, "{setup}");
        assert_eq!(terminal.settings(), terminal.before, "{setup}");
        assert!(!terminal.text().contains("\u{1b}"), "{setup}");
    }
}
