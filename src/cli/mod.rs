//! The subcommands, and the wiring of all other modules: the only module that names them all.

mod args;
mod certificate;
mod certificate_files;
pub mod demo;
mod descriptors;
mod file_watch;
mod host;
mod join;
mod log;
mod memory;
mod output;
mod proxy;
mod run_demo;
mod server;
mod signals;
mod state_dir;
mod terminal;
mod text_file;
mod token;
mod tokens_file;
mod user_id_key;

use std::process::ExitCode;

use args::{CliArgs, CliCommand};

/// The exit status for an error of the environment: a port in use, no terminal, a file that cannot be read.
const FAILED: u8 = 1;
/// The exit status of a proxy that the server refuses for good: a retry would not help.
const REFUSED: u8 = 3;
/// The exit status of the demo if a user received bytes that were not sent.
const CORRUPT: u8 = 4;

/// Runs the subcommand on the command line and returns the exit status.
///
/// 0 success · 1 failure · 2 invalid command line (from clap) · 3 refused by the server for good · 4 the demo detected
/// corrupted data.
pub fn run() -> ExitCode {
    let args = CliArgs::parse_line(std::env::args_os().collect()).unwrap_or_else(|error| error.exit());
    let result = match args.command {
        CliCommand::Server(args) => server::run(args),
        CliCommand::Proxy(args) => proxy::run(args),
        CliCommand::Token(args) => token::print(&args),
        CliCommand::Demo(args) => run_demo::run(args),
    };
    result.unwrap_or_else(|error| {
        output::complain(format_args!("{error:#}"));
        ExitCode::from(FAILED)
    })
}
