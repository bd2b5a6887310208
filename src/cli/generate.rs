//! Files that a package installs beside the program: completion scripts of shells, and man pages.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{
    args::{CliArgs, CompletionsArgs, ManArgs},
    output,
};

/// The name of the program, which the scripts complete.
const PROGRAM: &str = "underpass";

/// Prints the completion script of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    output::print(script(args.shell));
    ExitCode::SUCCESS
}

/// Returns the completion script of a shell: what the command line knows; in bash, zsh and fish also what runs, for
/// which the script calls [`complete`](super::complete).
fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CliArgs::command(), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // The function is registered at the end.
        Shell::Bash => match script.rsplit_once("\nif [[ \"${BASH_VERSINFO[0]}\"") {
            Some((functions, end)) => {
                let end = end.replace("complete -F _underpass ", "complete -F _underpass_live ");
                format!(
                    "{functions}\n{}\nif [[ \"${{BASH_VERSINFO[0]}}\"{end}",
                    include_str!("generate/live.bash")
                )
            }
            None => script,
        },
        Shell::Zsh => match script.split_once("\n_underpass() {\n") {
            Some((begin, functions)) => {
                format!("{begin}\n{}_underpass_static() {{\n{functions}", include_str!("generate/live.zsh"))
            }
            None => script,
        },
        Shell::Fish => script + include_str!("generate/live.fish"),
        _ => script,
    }
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
