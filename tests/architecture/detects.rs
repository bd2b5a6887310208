//! What the rules of this test detect and what they allow, on small sources.

use crate::rules::violations;

#[test]
fn every_kind_of_violation_is_detected() {
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
        ("tui/mod.rs", "use underpass::server::Server;", "external name"),
        ("telemetry/hub.rs", "use crate::control::Command;", "is not below"),
        ("attic/mod.rs", "use crate::ids::Group;", "a module without arrows"),
        ("lib.rs", "use crate::server::Server;", "is named outside of the modules"),
        ("main.rs", "use underpass::server::Server;", "external name"),
        ("wire/mod.rs", "use tokio::net::TcpStream;", "tokio::net::TcpStream does I/O"),
        ("wire/mod.rs", "async fn f() { tokio::time::sleep(d).await }", "tokio::time::sleep does I/O"),
        (
            "mux/mod.rs",
            "use std::{net::{SocketAddr, TcpStream}, time::Duration};",
            "std::net::TcpStream is not an address",
        ),
        ("mux/mod.rs", "use std::net;", "std::net is not an address"),
        ("mux/mod.rs", "use std::net::*;", "std::net::* is not an address"),
        ("mux/mod.rs", "use std::thread;", "std::thread does I/O"),
        ("mux/mod.rs", "fn f() { let now = std::time::Instant::now(); }", "Instant in a module"),
        ("mux/mod.rs", "fn f(then: Instant) -> Duration { then.elapsed() }", "elapsed in a module"),
        ("wire/mod.rs", "fn f() { tasks.spawn(async {}); }", "spawn in a module"),
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
        assert!(
            wrong.first().is_some_and(|message| message.contains(expected)),
            "{file}: {source}: {wrong:?}"
        );
    }
}

#[test]
fn allowed_sources_pass() {
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
