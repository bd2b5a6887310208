//! Where a generated token is shown, and where it is not.

use std::{fs, path::PathBuf};

use crate::{exclusive, terminal::Terminal};

/// Arguments of a server on a free port without a token, and its state directory.
fn server(name: &str) -> (PathBuf, Vec<String>) {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("state-{name}"));
    _ = fs::remove_dir_all(&state);
    let mut args = ["server", "--listen", "127.0.0.1:0", "--state-dir"].map(str::to_owned).to_vec();
    args.push(state.display().to_string());
    (state, args)
}

#[test]
fn a_generated_token_is_logged_to_a_terminal() {
    let _exclusive = exclusive();
    let (state, args) = server("logged");
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--no-tui"]).collect();
    let terminal = Terminal::underpass(&args, (200, 30), &[]);
    terminal.until_shows("underpass proxy --server 127.0.0.1:");
    let token = fs::read_to_string(state.join("token")).unwrap();
    terminal.until_shows(&format!("--token {} ", token.trim()));
    terminal.press("\x03");
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn the_token_is_on_the_screen_while_no_proxy_is_connected_and_then_on_demand() {
    let _exclusive = exclusive();
    let (state, args) = server("shown");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let terminal = Terminal::underpass(&args, (160, 40), &[]);
    terminal.until_shows("On the machine behind NAT");
    let token = fs::read_to_string(state.join("token")).unwrap();
    let token = token.trim();
    terminal.until_shows(token);
    // On this screen nothing but the window shows the command. One key after the other: a burst of keys acts on
    // nothing.
    terminal.press("4");
    terminal.until_shows("source");
    terminal.press("a");
    terminal.until_shows("--token ***");
    assert!(!terminal.text().contains(token), "{}", terminal.text());
    terminal.press("t");
    terminal.until_shows(token);
    terminal.press("t");
    terminal.until_shows("--token ***");
    terminal.press("a");
    terminal.until("no window", |screen| (!screen.contents().contains("--token ***")).then_some(()));
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
}
