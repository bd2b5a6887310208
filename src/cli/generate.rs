//! Files that a package installs beside the program: completion scripts of shells, and man pages.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{
    args::{CliArgs, CompletionsArgs, ManArgs},
    output,
};

/// The name of the program, which the scripts complete.
const PROGRAM: &str = "underpass";

/// Prints the completion script of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CliArgs::command(), PROGRAM, &mut script);
    output::print(String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes `underpass.1` and a man page for each subcommand into a directory, which is created if it does not exist.
///
/// # Errors
/// The directory cannot be created, or a file not written.
pub(super) fn man_pages(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(CliArgs::command(), dir));
    written.with_context(|| format!("cannot write man pages into {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
