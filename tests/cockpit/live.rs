//! Live figures, acts on one stream, painting and settings.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{demo, download::Download, exclusive, open, promised_second, terminal::Terminal};

/// Source address of the test's first download. No user of the demo has it.
pub const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// Source address of the test's second download.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);

/// Reads the public port of the demo from the screen.
pub fn public_port(terminal: &Terminal) -> u16 {
    terminal.until("the public port", |screen| {
        let text = screen.contents();
        let mut words = text.split_whitespace().skip_while(|word| *word != "edge-fra");
        words.nth(1)?.strip_prefix(':')?.parse().ok()
    })
}

/// Reads the address of the tunnel port of a server on 127.0.0.1 from the screen.
pub fn tunnel_addr(terminal: &Terminal) -> String {
    terminal.until("the address", |screen| {
        let text = screen.contents();
        let port = text.split("127.0.0.1:").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        port.parse::<u16>().ok().filter(|port| *port > 0).map(|port| format!("127.0.0.1:{port}"))
    })
}

/// Returns the uptime that the header shows behind the word `uptime`, in seconds; minutes and more count as a minute.
fn uptime_seconds(screen: &str) -> Option<u64> {
    let words: Vec<&str> = screen.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == "uptime").find_map(|pair| match pair[1].strip_suffix('s') {
        Some(seconds) if !seconds.contains('m') => seconds.parse().ok(),
        _ => pair[1].starts_with(|first: char| first.is_ascii_digit()).then_some(60),
    })
}

/// Returns rows and columns of a screen.
fn size_of(screen: &vt100::Screen) -> (u16, u16) {
    let (rows, columns) = screen.size();
    (rows.get(), columns.get())
}

/// Returns the selected row of the table.
pub fn selected(text: &str) -> Option<String> {
    text.lines().find(|line| line.starts_with('▌')).map(str::to_owned)
}

/// Selects the stream of the user at `addr` with a filter, removes the filter, and returns the stream key.
pub fn select(terminal: &Terminal, addr: Ipv4Addr) -> String {
    terminal.fill("/", &format!("user:{addr}: state:open"));
    let mark = format!("{addr}:");
    terminal.press("g");
    let row = terminal.until("our download, and nothing else", |screen| {
        let text = screen.contents();
        let only = text.contains("row 1 of 1 ");
        selected(&text).filter(|row| only && row.contains(&mark) && row.contains("OPEN"))
    });
    // The selection stays on the stream when the filter is removed.
    terminal.press("\x1b");
    let key = row.trim_start_matches('▌').split_whitespace().next().unwrap().to_owned();
    terminal.until("the filter goes", |screen| {
        let text = screen.contents();
        let row = selected(&text)?;
        (!text.contains("/ user:") && row.contains(&key)).then_some(())
    });
    key
}

#[test]
fn x_kills_exactly_the_selected_stream() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    let down =
        |text: &str| text.lines().next()?.split('↓').nth(1)?.split_whitespace().next().map(str::to_owned);
    let first =
        terminal.until("a rate", |screen| down(&screen.contents()).filter(|rate| !rate.starts_with("0B")));
    terminal.until("the rate moves", |screen| (down(&screen.contents())? != first).then_some(()));

    let port = public_port(&terminal);
    let victim = Download::start(port, "/file/400M", OURS);
    let other = Download::start(port, "/file/8M", OTHER);
    let key = select(&terminal, OURS);
    let spared = terminal.until("the other one", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains("127.0.0.78:"))?;
        row.trim_start_matches('▌').split_whitespace().next().map(str::to_owned)
    });
    terminal.press("x");
    terminal.until_shows("Kill this stream?");
    let asked = terminal.text();
    assert!(asked.contains(&key) && asked.contains("127.0.0.77:"), "{asked}");
    // Cancel is the default button: Enter kills nothing.
    terminal.press("\r");
    terminal.until("the dialog goes", |screen| (!screen.contents().contains("Kill this")).then_some(()));
    terminal.press("x");
    terminal.until_shows("Kill this stream?");
    terminal.press("y");
    let (whole, took) = victim.end(Duration::from_secs(20));
    assert!(!whole, "a killed download must not look whole");
    assert!(took < promised_second(), "{took:?}");
    terminal.until("the toast and the row", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains(&key) && line.contains("127.0.0.77:"))?;
        (row.contains("killed") && text.contains(&format!("killed {key}"))).then_some(())
    });
    // The selection leaves it for an open row, so that no further key is about an ended stream.
    terminal.until("another row is selected", |screen| {
        selected(&screen.contents()).filter(|row| !row.contains(&key)).map(drop)
    });
    let (whole, _) = other.end(Duration::from_secs(20));
    assert!(whole, "{spared} was not to be killed");
    let killed = terminal.text().lines().filter(|line| line.contains(" killed ")).count();
    assert!(killed <= 2, "one row and one line of the log: {}", terminal.text());
    assert!(open(&terminal.text()).unwrap() > 0);
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn p_pauses_and_resumes_a_download() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    let download = Download::start(public_port(&terminal), "/file/40M", OURS);
    let key = select(&terminal, OURS);
    terminal.press_until("p", "it is paused", |screen| {
        selected(&screen.contents()).filter(|row| row.contains(&key) && row.contains(" PAUSED ")).map(drop)
    });
    // The columns behind the priority: both rates and both totals.
    let held = terminal.until("it is paused and transfers nothing", |screen| {
        let text = screen.contents();
        let row = selected(&text).filter(|row| row.contains(&key) && row.contains(" PAUSED "))?;
        assert!(row.contains("GET /file/40M"), "{row}");
        let mut figures = row.split_whitespace().skip_while(|word| *word != "normal").skip(1);
        (figures.next()? == "0" && figures.next()? == "0").then(|| figures.nth(1).map(str::to_owned))?
    });
    terminal.press("p");
    let (whole, _) = download.end(Duration::from_secs(60));
    assert!(whole, "it was paused at {held} and did not continue");
    terminal.until("its end", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains(&key) && line.contains("127.0.0.77:"))?;
        row.contains("finished").then_some(())
    });
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
}

#[test]
fn every_frame_is_a_synchronized_update_and_a_resize_repaints() {
    let _exclusive = exclusive();
    let terminal = demo((160, 40), &[]);
    // By then the demo has opened streams, and the table has been painted more than once.
    terminal
        .until("two seconds of uptime", |screen| (uptime_seconds(&screen.contents())? >= 2).then_some(()));
    for (columns, rows) in [(80, 24), (40, 12), (200, 50), (10, 3), (100, 30)] {
        terminal.resize(columns, rows);
        let wanted = if columns < 24 { "open" } else { "STREAM" };
        terminal.until("a screen of the new size", |screen| {
            let text = screen.contents();
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            let full = columns < 24 || widest > usize::from(columns) - 12;
            (size_of(screen) == (rows, columns) && text.contains(wanted) && full).then_some(())
        });
    }
    terminal.press("?");
    terminal.until_shows("kill the selected");
    terminal.press("q");
    terminal
        .until("the help goes", |screen| (!screen.contents().contains("kill the selected")).then_some(()));
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
    let log = String::from_utf8_lossy(&terminal.log()).into_owned();
    let (enter, leave) = ("\x1b[?1049h", "\x1b[?2026l\x1b[0m");
    let inside = &log[log.find(enter).unwrap()..log.rfind(leave).unwrap()];
    let mut frames = inside.split("\x1b[?2026h");
    let before = frames.next().unwrap();
    assert!(before.starts_with(enter) && !before.contains('m'), "{before:?}");
    let (mut count, mut cleared) = (0, 0);
    for frame in frames {
        let (painted, after) = frame.split_once("\x1b[?2026l").expect("a frame ends");
        assert_eq!(after, "", "nothing is painted between two frames");
        count += 1;
        cleared += painted.matches("\x1b[2J").count();
        assert!(!painted.contains("\x1b[3J"));
    }
    assert!(count > 10, "{count} frames");
    // The start, each resize, and resizes that arrive in two steps.
    assert!((2..=12).contains(&cleared), "{cleared}");
}

/// A held key, or a program that writes keys, costs the server no more than a frame in eight milliseconds.
#[test]
fn keys_at_any_rate_cause_a_bounded_number_of_frames() {
    let _exclusive = exclusive();
    let terminal = demo((160, 40), &[]);
    terminal.until_shows("STREAM");
    let frames = || terminal.log().windows(8).filter(|at| at == b"\x1b[?2026h").count();
    let (before, begin) = (frames(), Instant::now());
    for _ in 0..500 {
        for key in ["j", "k"] {
            terminal.write(key);
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    let (painted, elapsed) = (frames() - before, begin.elapsed());
    assert!(painted as u128 <= elapsed.as_millis() / 8 + 2, "{painted} frames in {elapsed:?}");
    assert!(painted > 10, "{painted} frames in {elapsed:?}");
    terminal.quit();
}

#[test]
fn settings_are_read_and_invalid_ones_refused_before_the_screen_opens() {
    let _exclusive = exclusive();
    let home = std::env::temp_dir().join(format!("underpass-cockpit-{}", std::process::id()));
    let directory = home.join("underpass");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("cockpit.toml");
    let config = [("XDG_CONFIG_HOME", home.to_str().unwrap())];
    std::fs::write(&file, "ascii = true\nread_only = true\n[keys]\nfilter = \"F5\"\n").unwrap();
    let terminal = demo((120, 36), &config);
    assert!(terminal.text().is_ascii(), "{}", terminal.text());
    terminal.press("x");
    terminal.until_shows("kill (x) is disabled: this cockpit is read-only");
    terminal.press("\x1b[15~");
    terminal.until("the prompt, and no question", |screen| {
        let text = screen.contents();
        (text.contains("proxy:edge") && !text.contains("Kill this")).then_some(())
    });
    // Control-C closes the prompt. To quit would end the server, and with it all streams.
    terminal.press("\x03");
    terminal.until("the prompt goes", |screen| (!screen.contents().contains("proxy:edge")).then_some(()));
    for (key, asked) in [("q", "quit (q)"), ("\x03", "quit")] {
        // Replaces the notice about the key before, which would pass for this one's.
        terminal.press("x");
        terminal.until_shows("kill (x) is disabled: this cockpit is read-only");
        terminal.press(key);
        terminal.until_shows(&format!("{asked} is disabled: this cockpit is read-only"));
        terminal.press("4");
        terminal.until("another screen", |screen| (!screen.contents().contains("STREAM")).then_some(()));
        terminal.press("1");
        terminal.until_shows("STREAM");
        assert!(!terminal.text().contains("Quit?"), "{}", terminal.text());
    }
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit().0, 0);
    for (text, why) in [
        ("thme = \"dark\"", "there is no setting «thme»; did you mean «theme»?"),
        ("theme = \"drak\"", "did you mean «dark»?"),
        ("[keys]\nkill = \"ctrl-c\"", "«ctrl-c» is not the name of a key"),
    ] {
        std::fs::write(&file, text).unwrap();
        let terminal = Terminal::underpass(&["demo"], (120, 36), &config);
        assert_eq!(terminal.exit().0, 1);
        assert!(terminal.text().contains(why), "{}", terminal.text());
        assert!(!String::from_utf8_lossy(&terminal.log()).contains("\x1b[?1049h"));
    }
    std::fs::remove_dir_all(&home).unwrap();
}
