//! The log screen on a real server: who was refused, found by words and by level, and read in full.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    exclusive,
    live::tunnel_addr,
    terminal::{TOKEN, Terminal},
};

/// Sends `bytes` to the tunnel port, and waits until the server has closed the connection.
fn send(server: &str, bytes: &[u8]) {
    let mut socket = TcpStream::connect(server).unwrap();
    socket.write_all(bytes).unwrap();
    _ = socket.read_to_end(&mut Vec::new());
}

#[test]
fn the_log_screen_finds_who_was_refused_and_hides_what_is_less_important() {
    let _exclusive = exclusive();
    let arguments = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--plain", "--token", TOKEN];
    let terminal = Terminal::underpass(&arguments, (120, 36), &[]);
    let server = tunnel_addr(&terminal);
    send(&server, b"GET / HTTP/1.1\r\nHost: tunnel\r\n\r\n");
    send(&server, b"SSH-2.0-OpenSSH_9.6\r\n");
    terminal.press("4");
    terminal.until_shows("≥ TRACE lifecycle");
    // Words in any order and case. The record is read to its end, and its reason names no detail of the protocol.
    terminal.fill("/", "http REFUSED");
    terminal.until("one record", |screen| {
        let text = screen.contents();
        let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let reason = "the client speaks HTTP: this is the tunnel port, and users connect to the public ports";
        (unwrapped.contains(reason) && !text.contains("SSH") && !text.contains("listening")).then_some(())
    });
    // The name of a level stands for its records.
    terminal.fill("/", "warn refused");
    terminal.until("both records", |screen| {
        let text = screen.contents();
        (text.contains("HTTP") && text.contains("SSH") && !text.contains(" INFO ")).then_some(())
    });
    terminal.fill("/", "error");
    terminal.until_shows("No record contains these words.");
    terminal.press("\x1b");
    terminal.until_shows("listening for proxies on");
    // Without its levels INFO and below, the selected source keeps the refusals.
    for level in ["DEBUG", "INFO ", "WARN "] {
        terminal.press("h");
        terminal.until_shows(&format!("≥ {level} lifecycle"));
    }
    terminal.until("the warnings", |screen| {
        let text = screen.contents();
        (text.contains("SSH") && !text.contains("listening for proxies")).then_some(())
    });
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
}

/// The log file has «user=127.0.0.1:5», and the screen had «user: 127.0.0.1:5», in front of the message where its name
/// comes first: no search found both.
#[test]
fn the_fields_of_a_record_follow_its_message_as_in_the_log_file() {
    let _exclusive = exclusive();
    let terminal = Terminal::underpass(&["demo", "--log", "off,underpass::proxy=debug"], (160, 40), &[]);
    terminal.press("4");
    terminal.until("a record with a field", |screen| {
        let text = screen.contents();
        assert!(!text.contains("user: "), "{text}");
        text.lines().any(|line| line.contains(" connected to ") && line.contains(" user=127.")).then_some(())
    });
    terminal.fill("/", "user=127. connected");
    terminal.until("the record is found", |screen| {
        screen.contents().lines().any(|line| line.contains(" user=127.")).then_some(())
    });
}
