//! The module structure of `src/`, checked on its source: which module may name which, no cycles between files, no I/O,
//! clock or task in the modules that are free of them, the wall clock and the terminal only where they belong.
//!
//! A new arrow is added to [`ARROWS`], with the reason in the commit.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod cycles;
mod detects;
mod lexer;
mod paths;
mod rules;
mod sources;

use std::collections::BTreeSet;

use lexer::{Token::Punctuation, tokens, without_tests};
use paths::paths;
use sources::{module_of, sources};

/// Allowed arrows: the modules that each module may name besides itself.
const ARROWS: [(&str, &[&str]); 18] = [
    ("ids", &[]),
    ("tls", &[]),
    ("config", &["ids", "tls", "wire"]),
    ("telemetry", &["ids"]),
    ("control", &["ids"]),
    ("feed", &["ids", "telemetry"]),
    ("recording", &["ids", "feed", "telemetry"]),
    ("wire", &["ids"]),
    ("mux", &["ids", "wire"]),
    ("inspect", &["ids", "telemetry"]),
    ("runtime", &["telemetry"]),
    ("net", &["mux", "telemetry", "tls", "wire"]),
    ("link", &["ids", "inspect", "mux", "net", "runtime", "telemetry", "wire"]),
    ("server", &["ids", "config", "wire", "mux", "link", "net", "runtime", "telemetry", "control"]),
    ("proxy", &["ids", "config", "wire", "mux", "link", "net", "runtime", "telemetry", "tls"]),
    ("metrics", &["telemetry"]),
    ("tui", &["ids", "telemetry", "control"]),
    ("operator", &["ids", "telemetry", "control", "feed"]),
];

/// The module that connects all others, and may name all of them.
const TOP: &str = "cli";

/// Modules without clock, socket and task: their results follow from their arguments alone.
const PURE: [&str; 3] = ["ids", "wire", "mux"];

/// What these may name of `std::net`: addresses are plain values.
const ADDRESS_TYPES: [&str; 6] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Crates that do I/O or read clocks.
const IO_CRATES: [&str; 5] = ["tokio", "tokio_util", "mio", "socket2", "libc"];

/// Modules of `std` that do I/O or start threads.
const STD_IO_MODULES: [&str; 4] = ["thread", "fs", "process", "os"];

/// Crates that draw on a terminal.
const TERMINAL_CRATES: [&str; 2] = ["ratatui", "crossterm"];

/// The only module that may name them.
const SCREEN: &str = "tui";

#[test]
fn every_module_names_only_modules_below_it() {
    let wrong: Vec<_> = sources().iter().flat_map(|(file, source)| rules::violations(file, source)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_arrows_and_they_form_no_cycle() {
    let modules: BTreeSet<String> = sources()
        .keys()
        .filter_map(|file| file.split_once('/'))
        .map(|(module, _)| module.to_owned())
        .collect();
    let known: BTreeSet<String> =
        ARROWS.iter().map(|(module, _)| *module).chain([TOP]).map(str::to_owned).collect();
    assert_eq!(modules, known);
    for (module, below) in ARROWS {
        // All modules that can be reached from this one.
        let mut seen: BTreeSet<&str> = below.iter().copied().collect();
        while let Some(next) = ARROWS
            .iter()
            .filter(|(from, _)| seen.contains(from))
            .flat_map(|(_, to)| to.iter().copied())
            .find(|to| !seen.contains(to))
        {
            seen.insert(next);
        }
        assert!(!seen.contains(module), "{module} can be reached from itself");
    }
}

/// Guards against a lexer that skips code: for every allowed arrow at least one path is found in the source.
#[test]
fn every_allowed_arrow_is_used() {
    let sources = sources();
    assert!(sources.len() > 50, "{} files", sources.len());
    let used = |module: &str, named: &str| {
        sources.iter().filter(|(file, _)| file.starts_with(&format!("{module}/"))).any(|(file, source)| {
            let module: Vec<String> = module_of(file);
            paths(&tokens(source), &module)
                .iter()
                .any(|path| path[0] == "crate" && path.get(1).is_some_and(|word| word == named))
        })
    };
    for (module, below) in ARROWS {
        assert_eq!(
            below.iter().filter(|named| !used(module, named)).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "{module}"
        );
    }
}

/// The wall clock can be set backward or forward at any time. Timeouts and measured durations use the monotonic clock;
/// the time of day is only a timestamp of events and is only read for display.
#[test]
fn only_timestamps_and_the_screen_read_the_wall_clock() {
    let names = |source: &str| without_tests(&tokens(source)).0.iter().any(|token| token.is("SystemTime"));
    let sources = sources();
    let found: Vec<&str> =
        sources.iter().filter(|(_, source)| names(source)).map(|(file, _)| &file[..]).collect();
    let (on_screen, elsewhere): (Vec<&str>, Vec<&str>) =
        found.into_iter().partition(|file| file.starts_with(&format!("{SCREEN}/")));
    assert_eq!(elsewhere, ["telemetry/clock.rs"]);
    assert!(!on_screen.is_empty());
}

/// Telemetry only observes: a module that serves traffic takes no snapshot and reads no total. (The values that it
/// copies there for display, such as a weight or a pause, have getters that only `telemetry` sees.)
#[test]
fn no_decision_reads_telemetry() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        if !["server/", "proxy/", "link/", "net/", "runtime/"].iter().any(|module| file.starts_with(module)) {
            continue;
        }
        let (tokens, _) = without_tests(&tokens(&source));
        for call in tokens.windows(3) {
            if call[0] == Punctuation('.')
                && (call[1].is("snapshot") || call[1].is("totals"))
                && call[2] == Punctuation('(')
            {
                wrong.push(file.clone());
            }
        }
    }
    assert!(wrong.is_empty(), "these read telemetry: {wrong:?}");
}

/// The cockpit is a loop of pure steps: input becomes an intent, the reducer changes the model, the view draws it. The
/// reducer does not know how anything is drawn, and neither the view nor the model knows the reducer.
#[test]
fn the_reducer_and_the_view_do_not_name_each_other() {
    const FORBIDDEN: [(&str, &[&str]); 3] = [
        ("update", &["view", "runtime"]),
        ("view", &["update", "runtime"]),
        ("model", &["view", "update", "runtime"]),
    ];
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        let module = module_of(&file);
        let Some((_, forbidden)) = FORBIDDEN.iter().find(|(part, _)| {
            module.first().is_some_and(|top| top == SCREEN) && module.get(1).is_some_and(|m| m == part)
        }) else {
            continue;
        };
        let (tokens, _) = without_tests(&tokens(&source));
        for path in paths(&tokens, &module) {
            if path.get(1).is_some_and(|top| top == SCREEN)
                && path.get(2).is_some_and(|part| forbidden.contains(&&part[..]))
            {
                wrong.push(format!("{file}: {}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let cycles = cycles::cycles(&sources());
    assert!(cycles.is_empty(), "files that import each other:\n{}", cycles.join("\n"));
}
