//! The subcommands: the only room that names all others.

mod args;
pub mod demo;
mod host;
mod log;
mod proxy;
mod run_demo;
mod server;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// The user or the surroundings are to blame: a port in use, no terminal, a file that cannot be read.
const FAILED: u8 = 1;
/// The server refuses this proxy, and trying again is no use.
const REFUSED: u8 = 3;
/// Bytes arrived that were not sent.
const CORRUPT: u8 = 4;

/// Does what the command line says; the status to exit with.
///
/// 0 done · 1 failed · 2 the command line is wrong · 3 the server refuses this proxy · 4 the demo found wrong bytes.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Server(server) => server::run(server),
        Command::Proxy(proxy) => proxy::run(proxy),
        Command::Demo(demo) => run_demo::run(demo),
    };
    result.unwrap_or_else(|error| {
        eprintln!("underpass: {error:#}");
        ExitCode::from(FAILED)
    })
}
