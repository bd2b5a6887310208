//! What the screens call things, and that labels and names leave room for what they are about.

use std::time::Duration;

use super::fixture::Fixture;
use crate::tui::{help, msg::Effect};

const TICK: Duration = Duration::from_millis(100);

/// The first line of the screen.
fn header(fixture: &Fixture) -> String {
    fixture.text().lines().next().unwrap_or_default().to_owned()
}

/// An operator who wants to try a public port with curl must not take the tunnel port for it.
#[test]
fn the_header_names_the_tunnel_port_and_the_public_port() {
    for width in [200, 120, 80] {
        for screen in ["1", "2", "3", "4", "1>"] {
            let mut fixture = Fixture::busy(width, 36);
            fixture.press(screen);
            let header = header(&fixture);
            assert!(header.contains("● tunnel "), "{width} {header}");
            assert!(header.contains(":7000  ") && header.contains("37 open"), "{width} {header}");
            assert!(header.contains("7 users on :8080"), "{width} {header}");
        }
    }
    // With less room, the port that is open to users is kept, and where nothing else shows them the rates.
    assert!(header(&Fixture::busy(60, 15)).contains("37 open  7 users on :8080"));
    let smallest = header(&Fixture::busy(40, 12));
    assert!(smallest.contains("37 open") && smallest.contains("97.6M"), "{smallest}");
    let mut several = Fixture::busy(80, 24);
    let others = ["8081", "8082:blue"].map(|key| several.hub.service_opened(key.parse().unwrap()));
    several.tick(TICK);
    assert!(header(&several).contains("users on :8080 +2"), "{}", header(&several));
    drop(others);
}

/// A digit alone does not say what its screen is.
#[test]
fn every_tab_has_a_name_and_that_of_the_current_screen_is_complete() {
    for width in [200, 120, 80] {
        let header = header(&Fixture::busy(width, 36));
        for tab in ["1 Streams ", "2 Proxies ", "3 Users ", "4 Logs "] {
            assert!(header.contains(tab), "{width} {tab}: {header}");
        }
    }
    for width in [60, 79] {
        for (screen, tabs) in [
            ("1", "1 Streams 2 Prox 3 User 4 Logs"),
            ("2", "1 Strm 2 Proxies 3 User 4 Logs"),
            ("3", "1 Strm 2 Prox 3 Users 4 Logs"),
            ("4", "1 Strm 2 Prox 3 User 4 Logs"),
        ] {
            let mut fixture = Fixture::busy(width, 15);
            fixture.press(screen);
            assert!(header(&fixture).starts_with(&format!(" {tabs}  ")), "{width} {}", header(&fixture));
        }
    }
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("2");
    let text = fixture.text();
    let rule = text.lines().nth(1).unwrap();
    let (begin, end) = (rule.find('━').unwrap() / 3, rule.rfind('━').unwrap() / 3);
    assert_eq!(&header(&fixture)[begin..=end], "2 Proxies", "the underline is below its tab");
}

#[test]
fn the_load_of_the_proxies_says_what_its_numbers_count() {
    for width in [200, 120] {
        let text = Fixture::busy(width, 50).text();
        let row = text.lines().find(|line| line.starts_with("  edge-fra ")).unwrap();
        assert!(row.contains(" 1 ch ") && row.contains(" open "), "{row}");
        assert!(row.contains("━"), "and there is room for the bar: {row}");
    }
}

/// On a new server the operator looks for the address of the first proxy.
#[test]
fn without_a_proxy_the_tunnel_port_is_named_first() {
    for (width, height) in [(120, 36), (80, 24)] {
        let mut fixture = Fixture::empty(width, height);
        fixture.tick(TICK);
        let header = header(&fixture);
        assert!(header.contains("● tunnel ") && header.contains("0 proxies"), "{header}");
    }
}

#[test]
fn titles_are_complete_at_80_columns() {
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("3");
    let text = fixture.text();
    assert!(text.contains("┤ closed  ╳ lost"), "{text}");
    assert!(text.contains("DOWN    AGE"), "downloads before uploads: {text}");
}

#[test]
fn a_long_tunnel_address_is_shortened_to_its_port() {
    let long = "[2001:db8:1234:5678:9abc:def0:1234:5678]:7000";
    for (width, shown) in [(200, long), (120, ":7000"), (80, ":7000")] {
        let mut fixture = Fixture::busy(width, 36);
        fixture.model.labels.listen = long.to_owned();
        let header = header(&fixture);
        assert!(header.contains(&format!("● tunnel {shown}  ")), "{header}");
        assert!(header.contains("7 users on :8080"), "{header}");
    }
}

#[test]
fn at_80_columns_the_table_says_what_a_stream_carries() {
    let text = Fixture::busy(80, 24).text();
    let headings = text.lines().find(|line| line.contains("STREAM ")).unwrap();
    for heading in ["STATE", "PROXY", "CONTENT", "DOWN/s", "PROGRESS", "AGE"] {
        assert!(headings.contains(heading), "{heading}: {headings}");
    }
    assert!(!headings.contains("PRIO"), "{headings}");
    assert!(text.contains("TLS app.example"), "{text}");
}

/// The words that WORDS and the trials of the cockpit found inexplicable, on every screen and in the help.
#[test]
fn no_screen_uses_a_label_that_operators_could_not_explain() {
    for (width, height) in [(200, 50), (120, 36), (80, 24)] {
        for keys in ["1", "1j>", "2>", "3j>", "4", "jx", "jX", "q", "a"] {
            let mut fixture = Fixture::busy(width, height);
            fixture.press(keys);
            let text = fixture.text();
            for label in [
                "held by",
                "CARRIE",
                "OF BYTES",
                " EVER",
                " here",
                "EWIDT",
                "enlarge",
                "Sessions",
                "goaway",
                "clipboard",
                "finished  by",
                "lifecycle event",
                " norm ",
            ] {
                assert!(!text.contains(label), "{label} {keys}: {text}");
            }
        }
    }
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("4");
    assert!(fixture.text().contains("≥ INFO  lifecycle"), "{}", fixture.text());
    // The widget of the log knows the level of a source once it is drawn.
    for level in ["≥ WARN ", "≥ ERROR", "off    "] {
        fixture.press("h");
        assert!(fixture.text().contains(&format!("{level} lifecycle")), "{level} {}", fixture.text());
    }
}

#[test]
fn the_help_explains_what_the_screens_call_things() {
    let lines = help::lines(&Fixture::busy(100, 30).model, "", 300);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for term in [
        "tunnel port: where proxies connect",
        "public port: where users connect",
        "one client address on one public port",
        "bytes queued in the server; unsent: in the kernel",
        "congestion window",
        "each proxy of a service in turn",
        "ended streams beyond the last 1,000",
        "the cockpit was too slow",
        "(resume 21s)",
    ] {
        assert!(text.contains(term), "{term}: {text}");
    }
}

#[test]
fn a_long_token_is_complete_in_the_window_of_the_join_command() {
    let token = "0123456789abcdefghijklmnopqrstuv".repeat(6);
    for (width, height) in [(80, 24), (60, 15)] {
        let mut fixture = Fixture::busy(width, height);
        fixture.model.labels.join = Some(format!("underpass proxy --token {token} --port 8080"));
        fixture.model.labels.secret = Some(token.clone());
        fixture.press("a");
        assert!(fixture.text().contains("--token ***"), "{}", fixture.text());
        fixture.press("t");
        let text = fixture.text();
        let inside = text.lines().filter_map(|line| line.split('│').nth(1)).map(str::trim);
        let inside: String = inside.collect();
        assert!(inside.contains(&token), "{text}");
    }
}

#[test]
fn a_join_command_without_a_token_offers_none_to_show() {
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("a");
    let text = fixture.text();
    assert!(text.contains(" y copy  Esc close") && !text.contains("token"), "{text}");
    fixture.press("t");
    assert_eq!(fixture.notice(), "the command contains no token");
    assert!(matches!(fixture.press("y").as_slice(), [Effect::Copy(_)]));
}

/// A proxy chooses its name itself.
#[test]
fn a_name_of_255_characters_hides_nothing() {
    let mut fixture = Fixture::empty(80, 24);
    fixture.proxy(&"x".repeat(255));
    let at = fixture.open(0xAB_C123, 1);
    fixture.assign(at, 0);
    fixture.tick(TICK);
    fixture.press("2x");
    let text = fixture.text();
    assert!(text.contains("x  P1  192.0.2.7:4000") && text.contains("1 open stream"), "{text}");
    fixture.press("<");
    assert!(fixture.text().contains("x was not kicked"), "{}", fixture.text());
    fixture.press("D");
    fixture.press("1x");
    assert!(fixture.text().contains(":8080 → xxxx"), "{}", fixture.text());
    fixture.press("<>");
    assert!(fixture.text().contains("x  P1  "), "{}", fixture.text());
    fixture.press("<2");
    fixture.proxies.clear();
    fixture.tick(TICK);
    fixture.tick(TICK);
    assert!(fixture.text().contains("x disconnected "), "{}", fixture.text());
}
