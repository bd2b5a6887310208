//! The subcommands, and the wiring of all other modules: the only module that names them all.

mod args;
mod attach;
mod certificate;
mod certificate_files;
mod complete;
mod config;
pub mod demo;
mod descriptors;
mod detach;
mod file_watch;
mod generate;
mod guest;
mod health;
mod host;
mod join;
mod log;
mod log_format;
mod memory;
mod metrics;
mod operate;
mod output;
mod proxy;
mod reload;
mod replay;
mod run_demo;
mod server;
mod service_manager;
mod signals;
mod state_dir;
mod terminal;
mod text_file;
mod token;
mod tokens_file;
mod user_id_key;
mod version;

use std::process::ExitCode;

use args::{CliArgs, CliCommand, Invocation, Surroundings};

use crate::runtime::ignore_signal;

/// The exit status for an error of the environment: a port in use, no terminal, a file that cannot be read.
const FAILED: u8 = 1;
/// The exit status for a wrong command line or configuration file.
const WRONG_INPUT: u8 = 2;
/// The exit status of a proxy that the server refuses for good: a retry would not help.
const REFUSED: u8 = 3;
/// The exit status of the demo if a user received bytes that were not sent.
const CORRUPT: u8 = 4;

/// Runs the subcommand on the command line and returns the exit status.
///
/// 0 success · 1 failure · 2 invalid command line or configuration file · 3 refused by the server for good · 4 the demo
/// detected corrupted data · 5 the object of a command does not exist · 6 no server or proxy can be reached.
pub fn run() -> ExitCode {
    // Where a file may not grow further (ulimit -f), as a recording or a log at stderr, the write fails and the tunnel
    // continues; the signal would end the process.
    ignore_signal(libc::SIGXFSZ);
    let line = std::env::args_os().collect();
    let Invocation { args, options } = match CliArgs::parse_line(line, Surroundings::PROCESS) {
        Ok(invocation) => invocation,
        Err(error) => return error.report(),
    };
    let result = match args.command {
        CliCommand::Server(args) => server::run(*args, options),
        CliCommand::Proxy(args) => proxy::run(*args, options),
        CliCommand::Token(args) => token::print(&args),
        CliCommand::Config(args) => config::run(args.command),
        CliCommand::Demo(args) => run_demo::run(args),
        CliCommand::Completions(args) => Ok(generate::completions(&args)),
        CliCommand::Complete(args) => Ok(complete::run(&args)),
        CliCommand::Man(args) => generate::man_pages(&args),
        CliCommand::Operate(command) => operate::run(&command),
        CliCommand::Replay(args) => replay::run(args),
        CliCommand::Attach(args) => attach::run(&args),
        CliCommand::ControlRelay(args) => attach::relay(&args),
        CliCommand::ContinueJob(args) => detach::continue_job(&args),
    };
    result.unwrap_or_else(|error| {
        output::complain(format_args!("{error:#}"));
        ExitCode::from(operate::exit_code(&error).unwrap_or(FAILED))
    })
}
