//! The rooms look down only. This walks `src/` and fails on an arrow that points up, on a clock, a socket or a task in
//! the rooms that have none, and on a terminal outside the one that has it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which rooms each room may name beside itself.
const ARROWS: [(&str, &[&str]); 13] = [
    ("ids", &[]),
    ("config", &["ids"]),
    ("telemetry", &["ids"]),
    ("control", &["ids"]),
    ("wire", &["ids"]),
    ("mux", &["ids", "wire"]),
    ("inspect", &["ids", "telemetry"]),
    ("runtime", &["telemetry"]),
    ("net", &["mux", "telemetry", "wire"]),
    ("link", &["ids", "inspect", "mux", "net", "runtime", "telemetry", "wire"]),
    ("server", &["ids", "config", "wire", "mux", "link", "net", "runtime", "telemetry", "control"]),
    ("proxy", &["ids", "config", "wire", "mux", "link", "net", "runtime", "telemetry"]),
    ("tui", &["ids", "telemetry", "control"]),
];

/// The room that wires everything together, and may name all.
const TOP: &str = "cli";

/// Rooms without clock, socket and task: what happens in them follows from their arguments.
const PURE: [&str; 3] = ["ids", "wire", "mux"];

/// What these name of `std::net`: addresses are values.
const ADDRESSES: [&str; 6] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Crates and modules that do IO or know the time.
const IO: [&str; 5] = ["tokio", "tokio_util", "mio", "socket2", "libc"];
const STD_IO: [&str; 4] = ["thread", "fs", "process", "os"];

/// What draws on a terminal, and the room that does.
const TERMINAL: [&str; 2] = ["ratatui", "crossterm"];
const SCREEN: &str = "tui";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

use Token::{Mark, Word};

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Word(known) if known == word)
    }
}

/// Rust in words and marks, without comments, texts, characters, lifetimes and numbers.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let mut i = 0;
    while i < text.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= text.len() {
                        break;
                    }
                }
            }
            '"' => {
                i += 1;
                while i < text.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => i += 1,
            ':' if at(i + 1) == ':' => {
                out.push(Token::Path);
                i += 2;
            }
            c if is_word(c) => {
                let begin = i;
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = text[begin..i].iter().collect();
                // A raw text: it ends at a quote with as many hashes.
                let hashes = (i..).take_while(|&n| at(n) == '#').count();
                if matches!(&word[..], "r" | "br" | "cr") && at(i + hashes) == '"' {
                    i += hashes + 1;
                    while i < text.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                        i += 1;
                    }
                    i += 1 + hashes;
                } else if matches!(&word[..], "b" | "c") && at(i) == '"' {
                    // The text itself comes next.
                } else {
                    out.push(Word(word));
                }
            }
            c if c.is_whitespace() => i += 1,
            c => {
                out.push(Mark(c));
                i += 1;
            }
        }
    }
    out
}

/// The same without items under `#[cfg(test)]`; the names of the modules among them that stand in files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, BTreeSet<String>) {
    let attribute: Vec<Token> = self::tokens("#[cfg(test)]");
    let (mut kept, mut files) = (Vec::new(), BTreeSet::new());
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].starts_with(&attribute) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += attribute.len();
        let mut depth = 0;
        loop {
            match tokens.get(i) {
                Some(Word(word)) if word == "mod" && tokens.get(i + 2) == Some(&Mark(';')) => {
                    if let Some(Word(name)) = tokens.get(i + 1) {
                        files.insert(name.clone());
                    }
                }
                Some(Mark('{' | '[' | '(')) => depth += 1,
                Some(Mark('}' | ']' | ')')) => depth -= 1,
                None => break,
                _ => {}
            }
            let ends = matches!(tokens.get(i), Some(Mark(';'))) || matches!(tokens.get(i), Some(Mark('}')));
            i += 1;
            if ends && depth == 0 {
                break;
            }
        }
    }
    (kept, files)
}

/// Every path that is named, from its first word on: a group in braces is as many paths. What begins with `crate`,
/// `self` or `super` is turned into what stands at the crate's root, led by `crate`. `module` is the file's own.
fn paths(tokens: &[Token], module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // The modules that are open in this file, each with the depth of its braces.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i] {
            Word(word) if word == "mod" && matches!(tokens.get(i + 2), Some(Mark('{'))) => {
                if let Some(Word(name)) = tokens.get(i + 1) {
                    inner.push((name.clone(), depth));
                }
                i += 2;
            }
            Mark('{') => {
                depth += 1;
                i += 1;
            }
            Mark('}') => {
                depth -= 1;
                if inner.last().is_some_and(|(_, at)| *at == depth) {
                    inner.pop();
                }
                i += 1;
            }
            Word(_) if tokens.get(i + 1) == Some(&Token::Path) => {
                let here: Vec<String> =
                    module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
                let mut tree = Vec::new();
                i = path_tree(tokens, i, &[], &mut tree);
                found.extend(tree.into_iter().map(|path| absolute(path, &here)));
            }
            _ => i += 1,
        }
    }
    found
}

/// Reads one path or tree of paths that begins at `i`; where it ends.
fn path_tree(tokens: &[Token], mut i: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(i) {
            Some(Word(word)) => {
                path.push(word.clone());
                i += 1;
            }
            Some(Mark('*')) => {
                path.push("*".into());
                i += 1;
            }
            Some(Mark('{')) => {
                i += 1;
                while !matches!(tokens.get(i), None | Some(Mark('}'))) {
                    i = path_tree(tokens, i, &path, found);
                    // A new name for it, and what parts it from the next.
                    while !matches!(tokens.get(i), None | Some(Mark('}' | ','))) {
                        i += 1;
                    }
                    if tokens.get(i) == Some(&Mark(',')) {
                        i += 1;
                    }
                }
                return i + 1;
            }
            _ => break,
        }
        if tokens.get(i) != Some(&Token::Path) {
            break;
        }
        i += 1;
    }
    found.push(path);
    i
}

fn absolute(path: Vec<String>, here: &[String]) -> Vec<String> {
    let mut root = match &path[0][..] {
        "crate" => vec![],
        "self" | "super" => here.to_vec(),
        _ => return path,
    };
    let mut words = path.into_iter().peekable();
    while let Some(word) = words.next_if(|word| matches!(&word[..], "crate" | "self" | "super")) {
        if word == "super" {
            root.pop();
        }
    }
    ["crate".to_owned()].into_iter().chain(root).chain(words).collect()
}

/// What is wrong with a file of the crate, by its path below `src`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let (tokens, _) = without_tests(&tokens(source));
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    let room = if file.contains('/') { module[0].clone() } else { String::new() };
    let paths = paths(&tokens, if room.is_empty() { &[] } else { &module });
    let mut wrong = Vec::new();
    for path in &paths {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(why) = forbidden(&room, &words) {
            wrong.push(format!("{file}: {} {why}", path.join("::")));
        }
    }
    if PURE.contains(&&room[..]) {
        for (i, token) in tokens.iter().enumerate() {
            let follows = |word: &str| tokens.get(i + 2).is_some_and(|next| next.is(word));
            let is_call = tokens.get(i + 1) == Some(&Mark('('));
            if (token.is("Instant") || token.is("SystemTime")) && follows("now")
                || token.is("elapsed") && is_call
                || token.is("spawn") && is_call
            {
                let Word(word) = token else { continue };
                wrong.push(format!("{file}: {word} in a room without clock and task"));
            }
        }
    }
    wrong
}

fn forbidden(room: &str, path: &[&str]) -> Option<&'static str> {
    match path {
        // The map and the program's first lines.
        ["crate", named, ..] if room.is_empty() => (*named != TOP).then_some("is named above the rooms"),
        ["underpass", named, ..] => {
            (!room.is_empty() || *named != TOP).then_some("is the crate by its outer name")
        }
        ["crate", "*", ..] | ["crate"] => Some("names all rooms at once"),
        ["crate", named, ..] if *named == room || room == TOP => None,
        ["crate", named, ..] => {
            let below = ARROWS.iter().find(|(from, _)| *from == room).map(|(_, below)| *below);
            match below {
                None => Some("is named by a room that has no arrows"),
                Some(below) => (!below.contains(named)).then_some("is not below this room"),
            }
        }
        [first, ..] if TERMINAL.contains(first) => (room != SCREEN).then_some("is for the screen only"),
        _ if !PURE.contains(&room) => None,
        [first, ..] if IO.contains(first) => Some("does IO or knows the time"),
        ["std", "net", rest @ ..] => {
            (!rest.first().is_some_and(|name| ADDRESSES.contains(name))).then_some("is more than an address")
        }
        ["std", module, ..] if STD_IO.contains(module) => Some("does IO or knows the time"),
        _ => None,
    }
}

fn source_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// All of `src` by its path below it, without the modules that exist in tests only.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut sources = BTreeMap::new();
    let mut tests = Vec::new();
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        // Modules of `a/mod.rs`, `lib.rs` and `main.rs` stand beside them, those of `a/b.rs` in `a/b`.
        let beside = match file.rsplit_once('/') {
            Some((dir, "mod.rs")) => format!("{dir}/"),
            None if file == "lib.rs" || file == "main.rs" => String::new(),
            _ => format!("{}/", file.trim_end_matches(".rs")),
        };
        let (_, modules) = without_tests(&tokens(&source));
        for module in modules {
            tests.extend([format!("{beside}{module}.rs"), format!("{beside}{module}/")]);
        }
        sources.insert(file, source);
    }
    sources.retain(|file, _| {
        !tests.iter().any(|test| file == test || (test.ends_with('/') && file.starts_with(test.as_str())))
    });
    sources
}

#[test]
fn the_rooms_look_down_only() {
    let wrong: Vec<_> = sources().iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_its_arrows() {
    let rooms: BTreeSet<String> =
        sources().keys().filter_map(|file| file.split_once('/')).map(|(room, _)| room.to_owned()).collect();
    let known: BTreeSet<String> =
        ARROWS.iter().map(|(room, _)| *room).chain([TOP]).map(str::to_owned).collect();
    assert_eq!(rooms, known);
    for (room, below) in ARROWS {
        // Nobody is below who looks back, directly or by others.
        let mut seen: BTreeSet<&str> = below.iter().copied().collect();
        while let Some(next) = ARROWS
            .iter()
            .filter(|(from, _)| seen.contains(from))
            .flat_map(|(_, to)| to.iter().copied())
            .find(|to| !seen.contains(to))
        {
            seen.insert(next);
        }
        assert!(!seen.contains(room), "{room} looks at itself");
    }
}

/// Whoever reads these files finds what the compiler finds: a path for each arrow that is known to exist.
#[test]
fn the_walk_sees_what_is_there() {
    let sources = sources();
    assert!(sources.len() > 50, "{} files", sources.len());
    let used = |room: &str, named: &str| {
        sources.iter().filter(|(file, _)| file.starts_with(&format!("{room}/"))).any(|(file, source)| {
            let module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            paths(&tokens(source), &module)
                .iter()
                .any(|path| path[0] == "crate" && path.get(1).is_some_and(|word| word == named))
        })
    };
    for (room, below) in ARROWS {
        assert_eq!(
            below.iter().filter(|named| !used(room, named)).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "{room}"
        );
    }
}

/// The clock on the wall may be set, back or forth, at any time. Whoever waits, or decides by how long something took,
/// asks the other one; the wall's time is stamped on events, and read by the screen only.
#[test]
fn the_wall_clock_decides_nothing() {
    let names = |source: &str| without_tests(&tokens(source)).0.iter().any(|token| token.is("SystemTime"));
    let sources = sources();
    let found: Vec<&str> =
        sources.iter().filter(|(_, source)| names(source)).map(|(file, _)| &file[..]).collect();
    let (on_screen, elsewhere): (Vec<&str>, Vec<&str>) =
        found.into_iter().partition(|file| file.starts_with(&format!("{SCREEN}/")));
    assert_eq!(elsewhere, ["telemetry/clock.rs"]);
    assert!(!on_screen.is_empty());
}

/// Telemetry only observes: a module that serves traffic takes no snapshot and reads no total. (The values that it copies
/// there for display, such as a weight or a pause, have getters that only `telemetry` sees.)
#[test]
fn no_decision_reads_telemetry() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        if !["server/", "proxy/", "link/", "net/", "runtime/"].iter().any(|module| file.starts_with(module)) {
            continue;
        }
        let (tokens, _) = without_tests(&tokens(&source));
        for pair in tokens.windows(3) {
            if pair[0] == Mark('.')
                && (pair[1].is("snapshot") || pair[1].is("totals"))
                && pair[2] == Mark('(')
            {
                wrong.push(file.clone());
            }
        }
    }
    assert!(wrong.is_empty(), "these read telemetry: {wrong:?}");
}

#[test]
fn the_test_itself_can_fail() {
    for (file, source, expected) in [
        ("ids/keys.rs", "use crate::wire::Frame;", "crate::wire::Frame is not below"),
        (
            "mux/link.rs",
            "use crate::{ids::StreamKey, telemetry::Gauge};",
            "crate::telemetry::Gauge is not below",
        ),
        (
            "mux/link.rs",
            "use crate::{\n    ids::{A, B as C}, // {\n    link::{self, Link},\n};",
            "crate::link::self",
        ),
        ("mux/link.rs", "pub use crate::server as other;", "crate::server is not below"),
        ("mux/link.rs", "fn f() -> crate::server::Server { todo!() }", "crate::server::Server is not below"),
        ("mux/link.rs", "use super::super::server::Server;", "crate::server::Server is not below"),
        ("mux/mod.rs", "use super::{server::Server, wire};", "crate::server::Server is not below"),
        ("mux/mod.rs", "mod inner { use super::super::proxy::Proxy; }", "crate::proxy::Proxy is not below"),
        ("mux/mod.rs", "use crate::*;", "crate::* names all"),
        ("server/mod.rs", "use crate::proxy::Proxy;", "crate::proxy::Proxy is not below"),
        ("proxy/mod.rs", "use crate::server::Server;", "crate::server::Server is not below"),
        ("proxy/mod.rs", "use crate::control::Command;", "crate::control::Command is not below"),
        ("tui/view/log.rs", "use crate::server::Server;", "crate::server::Server is not below"),
        ("tui/mod.rs", "use underpass::server::Server;", "outer name"),
        ("telemetry/hub.rs", "use crate::control::Command;", "is not below"),
        ("attic/mod.rs", "use crate::ids::Group;", "has no arrows"),
        ("lib.rs", "use crate::server::Server;", "is named above the rooms"),
        ("main.rs", "use underpass::server::Server;", "outer name"),
        ("wire/mod.rs", "use tokio::net::TcpStream;", "tokio::net::TcpStream does IO"),
        ("wire/mod.rs", "async fn f() { tokio::time::sleep(d).await }", "tokio::time::sleep does IO"),
        (
            "mux/mod.rs",
            "use std::{net::{SocketAddr, TcpStream}, time::Duration};",
            "std::net::TcpStream is more",
        ),
        ("mux/mod.rs", "use std::net;", "std::net is more"),
        ("mux/mod.rs", "use std::net::*;", "std::net::* is more"),
        ("mux/mod.rs", "use std::thread;", "std::thread does IO"),
        ("mux/mod.rs", "fn f() { let now = std::time::Instant::now(); }", "Instant in a room"),
        ("mux/mod.rs", "fn f(then: Instant) -> Duration { then.elapsed() }", "elapsed in a room"),
        ("wire/mod.rs", "fn f() { tasks.spawn(async {}); }", "spawn in a room"),
        (
            "wire/mod.rs",
            "#[cfg(test)] mod tests { use x::y; } use tokio::time::Instant;",
            "tokio::time::Instant does",
        ),
        ("wire/mod.rs", "#[cfg(test)] mod tests; use tokio::time::Instant;", "tokio::time::Instant does"),
        ("server/mod.rs", "use ratatui::Frame;", "ratatui::Frame is for the screen only"),
        ("cli/mod.rs", "use crossterm::event;", "crossterm::event is for the screen only"),
    ] {
        let wrong = violations(file, source);
        assert!(wrong.first().is_some_and(|told| told.contains(expected)), "{file}: {source}: {wrong:?}");
    }
}

#[test]
fn what_is_allowed_passes() {
    for (file, source) in [
        ("ids/mod.rs", "pub use keys::Group; use std::fmt; use super::ids::Group;"),
        (
            "mux/link.rs",
            "use super::{Role, channel::Channel}; use crate::{ids::StreamKey, mux::X, wire::{Frame, text}};",
        ),
        (
            "mux/link.rs",
            "use std::{net::{IpAddr, SocketAddr}, time::{Duration, Instant}}; fn f(now: Instant) {}",
        ),
        (
            "mux/link.rs",
            "// use crate::server::Server;\n/* use tokio::x; /* Instant::now() */ */ const T: &str = \"crate::server::x\";",
        ),
        (
            "mux/link.rs",
            "const T: &str = r#\"a \" crate::server::x\"#; const B: &[u8] = b\"crate::server\"; const C: char = '\"';",
        ),
        (
            "mux/link.rs",
            "fn f<'a>(a: &'a str) { let b = '\\''; } #[cfg(test)] mod tests { use tokio::x; fn f() { Instant::now(); } }",
        ),
        (
            "mux/link.rs",
            "#[cfg(test)] use crate::server::Server; #[cfg(test)] #[allow(x)] fn f() { crate::server::f() } fn g() {}",
        ),
        (
            "server/mod.rs",
            "pub(in crate::server) struct Core; use tokio::net::TcpListener; use crate::control;",
        ),
        ("tui/mod.rs", "use ratatui::Frame; use crate::{control::Command, ids, telemetry::Snapshot};"),
        ("cli/mod.rs", "use crate::{server::Server, proxy::Proxy, tui};"),
        ("main.rs", "fn main() -> std::process::ExitCode { underpass::cli::run() }"),
    ] {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}
