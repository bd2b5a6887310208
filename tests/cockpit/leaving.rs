//! Ways to leave the cockpit, each of which restores the terminal.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use portable_pty::CommandBuilder;
use rustix::process::Signal;

use crate::{demo, exclusive, preload, promised_second, terminal::Terminal};

/// A name and an action that ends the program.
type Way<'a> = (&'a str, &'a dyn Fn(&Terminal));

/// Asserts that the demo exits with status 0, restores the terminal, and prints its summary on the main screen.
fn assert_clean_exit(terminal: &Terminal) {
    assert_eq!(terminal.exit().0, 0);
    terminal.until_sane();
    let text = terminal.text();
    assert!(text.contains("demo ran for") && text.contains("checksum failures  0"), "{text}");
    assert!(!text.contains("Streams"), "nothing of the cockpit is left: {text}");
}

#[test]
fn q_asks_and_restores_the_terminal() {
    let _exclusive = exclusive();
    let terminal = demo((120, 36), &[]);
    assert_ne!(terminal.settings(), terminal.before, "the cockpit reads keys, not lines");
    terminal.press("q");
    terminal.until_shows("Quit?");
    // Cancel is the default button.
    terminal.press("\r");
    terminal.until("the question goes", |screen| (!screen.contents().contains("Quit?")).then_some(()));
    assert!(terminal.runs());
    terminal.until_shows("cancelled: the server continues");
    terminal.quit();
    assert_clean_exit(&terminal);
}

#[test]
fn control_c_asks_and_letters_do_not_answer() {
    let _exclusive = exclusive();
    let terminal = demo((120, 36), &[]);
    terminal.press("\x03");
    terminal.until_shows("Quit?");
    for key in ["\x03", "y"] {
        terminal.press(key);
        terminal.until_shows("⇥ selects an answer");
        assert!(terminal.runs() && terminal.text().contains("[ Cancel ]"), "{}", terminal.text());
    }
    terminal.press("\t");
    terminal.until_shows("[ Quit now ]");
    terminal.press("\r");
    assert_clean_exit(&terminal);
}

#[test]
fn q_and_every_signal_restore_the_terminal() {
    let _exclusive = exclusive();
    let ways: [Way; 4] = [
        ("q", &Terminal::quit),
        ("SIGTERM", &|terminal| terminal.signal(Signal::TERM)),
        ("SIGHUP", &|terminal| terminal.signal(Signal::HUP)),
        ("SIGINT", &|terminal| terminal.signal(Signal::INT)),
    ];
    for (name, leave) in ways {
        let terminal = demo((100, 30), &[]);
        leave(&terminal);
        println!("{name}");
        assert_clean_exit(&terminal);
    }
}

#[test]
fn the_demo_ends_after_its_duration() {
    let _exclusive = exclusive();
    // The cockpit is not asleep until its next sample when the program ends.
    let terminal = Terminal::underpass(&["demo", "--duration", "1", "--refresh", "10"], (80, 24), &[]);
    terminal.until_shows("Streams");
    assert_clean_exit(&terminal);
}

#[test]
fn a_panic_of_the_cockpit_restores_the_terminal_and_the_tunnel_continues() {
    let _exclusive = exclusive();
    // Only builds with debug assertions know this variable.
    if !cfg!(debug_assertions) {
        return;
    }
    let terminal = demo((100, 30), &[("UNDERPASS_PANIC", "cockpit")]);
    terminal.press_until("p", "the panic", |screen| {
        screen.contents().contains("continues without the cockpit").then_some(())
    });
    terminal.until_sane();
    assert!(terminal.runs(), "the tunnel continues");
    terminal.signal(Signal::TERM);
    assert_clean_exit(&terminal);
}

#[test]
fn a_panic_of_a_task_is_logged() {
    let _exclusive = exclusive();
    if !cfg!(debug_assertions) {
        return;
    }
    // Only errors are logged: the lines of other streams would scroll it out of the panel.
    let environment = [("UNDERPASS_PANIC", "task"), ("UNDERPASS_LOG", "error")];
    let terminal = demo((120, 36), &environment);
    // The first command makes a task panic.
    terminal.press_until("p", "the log tells", |screen| {
        let text = screen.contents();
        (text.contains("ERROR") && text.contains("asked for") && screen.alternate_screen()).then_some(())
    });
    // The cockpit still reacts to keys.
    terminal.press("?");
    terminal.until_shows("kill the selected");
    terminal.press("q");
    terminal
        .until("the help goes", |screen| (!screen.contents().contains("kill the selected")).then_some(()));
    terminal.quit();
    assert_clean_exit(&terminal);
}

#[test]
fn control_z_suspends_and_fg_resumes_the_cockpit() {
    let _exclusive = exclusive();
    let mut shell = CommandBuilder::new("/bin/sh");
    shell.arg("-i");
    shell.env("PS1", "ready> ");
    shell.env("ENV", "/dev/null");
    let terminal = Terminal::run(shell, (120, 36));
    terminal.until_shows("ready> ");
    terminal.press(&format!("{} demo\n", env!("CARGO_BIN_EXE_underpass")));
    terminal.until("the cockpit", |screen| {
        (screen.alternate_screen() && screen.contents().contains("OPEN")).then_some(())
    });
    terminal.press("\x1a");
    terminal.until("the shell", |screen| {
        let sane = !screen.alternate_screen() && !screen.hide_cursor();
        (sane && screen.contents().trim_end().ends_with("ready>")).then_some(())
    });
    // Asserts on the output of the shell and not on the echo of the typed command: line editing works.
    terminal.press("echo $((40+2))\n");
    terminal.until("an answer", |screen| screen.contents().lines().any(|l| l.trim() == "42").then_some(()));
    terminal.press("fg\n");
    terminal.until("the cockpit again", |screen| {
        (screen.alternate_screen() && screen.hide_cursor() && screen.contents().contains("STREAM"))
            .then_some(())
    });
    terminal.quit();
    terminal.until("the summary", |screen| {
        let text = screen.contents();
        (!screen.alternate_screen() && text.contains("checksum failures  0")).then_some(())
    });
    terminal.press("exit 7\n");
    assert_eq!(terminal.exit().0, 7);
}

#[test]
fn closing_the_terminal_ends_the_program_within_a_second() {
    let _exclusive = exclusive();
    let mut terminal = demo((100, 30), &[]);
    let gone = terminal.close();
    let (_, ended) = terminal.exit();
    let took = ended.saturating_duration_since(gone);
    assert!(took < promised_second(), "{took:?}");
}

/// As under `nohup`, but with the cockpit.
#[test]
fn with_sighup_ignored_the_program_outlives_its_terminal() {
    let _exclusive = exclusive();
    let mut shell = CommandBuilder::new("/bin/sh");
    let program = env!("CARGO_BIN_EXE_underpass");
    let server = "server --listen 127.0.0.1:0 --token vK8dR2xQ9mWz4LpT7cYb";
    shell.args(["-c", &format!("trap '' HUP; exec '{program}' {server}")]);
    let mut terminal = Terminal::run(shell, (100, 30));
    terminal.until_shows("open");
    terminal.signal(Signal::HUP);
    terminal.close();
    // Longer than the cockpit takes to notice.
    std::thread::sleep(Duration::from_secs(1));
    assert!(terminal.runs());
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit().0, 0);
}

/// The thread on which the server runs never returns from a system call. Nothing but the second signal can end it.
#[test]
fn the_second_signal_ends_a_blocked_server_and_restores_the_terminal() {
    let _exclusive = exclusive();
    let library = preload::compile("support/stuck.c");
    let environment = [("LD_PRELOAD", library.as_str()), ("STUCK", "accept4")];
    let server = ["server", "--listen", "127.0.0.1:0", "--token", "vK8dR2xQ9mWz4LpT7cYb", "--workers", "1"];
    let terminal = Terminal::underpass(&server, (100, 30), &environment);
    let addr = terminal.until("the address", |screen| {
        let contents = screen.contents();
        contents.split_whitespace().find_map(|word| word.parse::<SocketAddr>().ok())
    });
    let _client = TcpStream::connect(addr).unwrap();
    terminal.until_shows("accept4 never returns");
    terminal.signal(Signal::TERM);
    // The cockpit has seen the first one. The kernel makes one signal of two that it could not deliver yet.
    terminal.until_shows("draining");
    terminal.signal(Signal::TERM);
    assert_ne!(terminal.exit().0, 0);
    terminal.until_sane();
    assert!(terminal.text().contains("ended by SIGTERM at once"), "{}", terminal.text());
}
