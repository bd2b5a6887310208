//! Sorting of the table, and commands on a user and on a proxy.

use std::time::Duration;

use crate::{
    demo,
    download::Download,
    exclusive,
    live::{OTHER, OURS, public_port, select, selected},
};

/// Returns user and stream number of each row, from top to bottom.
fn rows(text: &str) -> Vec<(u32, u32)> {
    let table = text.lines().skip_while(|line| !line.starts_with("  STREAM"));
    let keys = table.skip(1).map_while(|line| {
        let key = line.trim_start_matches(['▌', ' ', '*']).split_whitespace().next()?;
        let (user, stream) = key.split_once(':')?;
        Some((u32::from_str_radix(user, 16).ok()?, stream.parse().ok()?))
    });
    keys.collect()
}

#[test]
fn the_table_is_sorted_by_the_marked_column() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    // Ended streams are listed below the open ones, ordered by the time of their end.
    terminal.press("t");
    terminal.until_shows("DOWN/s▾");
    terminal.press("s");
    terminal.until("the next column", |screen| {
        let text = screen.contents();
        (!text.contains("DOWN/s▾") && text.contains("UP▾")).then_some(())
    });
    terminal.fill(":", "sort key");
    let many = |rows: &[(u32, u32)]| rows.len() > 4;
    terminal.until("keys from the first", |screen| {
        let text = screen.contents();
        let rows = rows(&text);
        (text.contains("STREAM▴") && many(&rows) && rows.is_sorted()).then_some(())
    });
    terminal.press("r");
    terminal.until("keys from the last", |screen| {
        let text = screen.contents();
        let rows = rows(&text);
        (text.contains("STREAM▾") && many(&rows) && rows.is_sorted_by(|a, b| a >= b)).then_some(())
    });
    terminal.press("o");
    terminal.until_shows("[x] service");
    terminal.press("jj");
    terminal.until_shows("▌[x] service");
    terminal.press(" ");
    terminal.until("the column goes", |screen| {
        let text = screen.contents();
        (text.contains("[ ] service") && !text.contains("SERVICE")).then_some(())
    });
    terminal.press("q");
    terminal.until("the list of columns goes", |screen| {
        (!screen.contents().contains("[ ] service")).then_some(())
    });
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn capital_k_kills_all_streams_of_one_user() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    let port = public_port(&terminal);
    let first = Download::start(port, "/file/400M", OURS);
    let other = Download::start(port, "/file/8M", OTHER);
    let key = select(&terminal, OURS);
    let user = key.split(':').next().unwrap().to_owned();
    let second = Download::start(port, "/file/400M", OURS);
    terminal.press("K");
    // The dialog updates the number of open streams.
    terminal.until("both in the question", |screen| {
        let text = screen.contents();
        let both = text.contains("2 streams open") && text.contains("127.0.0.77");
        (text.contains("Kill this user?") && text.contains(&user) && both).then_some(())
    });
    terminal.press("y");
    for download in [first, second] {
        let (whole, _) = download.end(Duration::from_secs(20));
        assert!(!whole, "a killed download must not look whole");
    }
    terminal.until_shows(&format!("killed user {user}, 2 streams"));
    let (whole, _) = other.end(Duration::from_secs(60));
    assert!(whole, "the other user was not to be killed");
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn capital_x_kicks_the_proxy_of_the_selected_stream() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    let download = Download::start(public_port(&terminal), "/file/400M", OURS);
    let key = select(&terminal, OURS);
    let row = selected(&terminal.text()).unwrap();
    terminal.press("X");
    let (name, number) = terminal.until("the question", |screen| {
        let text = screen.contents();
        let mut lines = text.lines().skip_while(|line| !line.contains("Kick this proxy?")).skip(1);
        // The line of the screen also contains the table beside the dialog.
        let name = lines.next()?.split('│').nth(1)?.split_whitespace().next()?.to_owned();
        assert!(row.contains(&name), "{name} does not carry {row}");
        // With more than ten streams, the dialog requires their number to be typed.
        let number = text.split("Type ").nth(1).and_then(|rest| rest.split(' ').next().map(str::to_owned));
        Some((name, number.unwrap_or_default()))
    });
    for digit in number.chars() {
        terminal.press(&digit.to_string());
    }
    terminal.until_shows(if number.is_empty() { "[ Cancel ]" } else { "[ Kick ]" });
    terminal.press(if number.is_empty() { "y" } else { "\r" });
    let (whole, _) = download.end(Duration::from_secs(20));
    assert!(!whole, "a download that lost its proxy must not look whole");
    terminal.until("the toast and the row", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains(&key) && line.contains("127.0.0.77:"))?;
        (text.contains(&format!("kicked {name}")) && row.contains("killed")).then_some(())
    });
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}
