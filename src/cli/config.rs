//! `underpass config`: checks configuration files, and shows what options result from them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;

use super::{
    WRONG_INPUT,
    args::{CheckArgs, CliArgs, CliCommand, ConfigCommand, ResolvedOption, ShowArgs, Surroundings},
    output,
    tokens_file::{self, TokensFile},
};
use crate::operator::Role;

/// Checks files, or shows the resulting options.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => check(&args),
        ConfigCommand::Show(args) => Ok(show(args)),
    }
}

/// Checks files, and prints every mistake with its place.
///
/// # Errors
/// There is no file to check.
fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let with_role = |path: &PathBuf| match args.role().map_or_else(|| Role::guess(path), Ok) {
        Ok(role) => Ok((path.clone(), role)),
        Err(why) => Err(anyhow::anyhow!("{}: {why}", path.display())),
    };
    let mut files = args.files.iter().map(with_role).collect::<anyhow::Result<Vec<_>>>()?;
    if args.files.is_empty() {
        let roles = Role::ALL.into_iter().filter(|role| args.role().is_none_or(|only| only == *role));
        let places: Vec<_> = roles
            .flat_map(|role| {
                Surroundings::PROCESS.default_files(role).into_iter().map(move |path| (path, role))
            })
            .collect();
        files = places.iter().filter(|(path, _)| path.exists()).cloned().collect();
        if files.is_empty() {
            let places: Vec<_> = places.iter().map(|(path, _)| path.display().to_string()).collect();
            bail!("there is none of the configuration files {}: name one", places.join(", "));
        }
    }
    let mut status = ExitCode::SUCCESS;
    for (path, role) in files {
        let (mistakes, has_unknown_key) = check_file(&path, role);
        let is_guessed = args.role().is_none() && !args.files.is_empty();
        if is_guessed && has_unknown_key {
            let other = if role == Role::Server { Role::Proxy } else { Role::Server };
            output::complain(format_args!(
                "{}: checked as the configuration of a {}; --{} checks it as that of a {}",
                path.display(),
                role.as_str(),
                other.as_str(),
                other.as_str()
            ));
        }
        if mistakes.is_empty() {
            output::print(format_args!("{}: valid configuration of a {}\n", path.display(), role.as_str()));
        } else {
            status = ExitCode::from(WRONG_INPUT);
        }
        mistakes.iter().for_each(output::complain);
    }
    Ok(status)
}

/// Returns the mistakes of a file and of the files that it names, and whether the file has a key that does not exist.
fn check_file(path: &Path, role: Role) -> (Vec<String>, bool) {
    let line = ["underpass", role.as_str(), "--config"].map(OsString::from).into_iter().chain([path.into()]);
    let name = path.display();
    // Without the environment, which may be another one where the file is used.
    let invocation = match CliArgs::parse_line(line.collect(), Surroundings::NONE) {
        Err(error) => {
            let prefix = if error.names_file() { String::new() } else { format!("{name}: ") };
            let mistakes = error.to_string().lines().map(|line| format!("{prefix}{line}")).collect();
            return (mistakes, error.has_unknown_key());
        }
        Ok(invocation) => invocation,
    };
    if let Some(warning) = invocation.options.warning() {
        output::complain(format_args!("warning: {warning}"));
    }
    let failures = match &invocation.args.command {
        CliCommand::Server(args) => {
            let token = args.token.token();
            let unlimited = token.as_ref().ok().and_then(Option::as_ref);
            let tokens = args.tokens.as_deref().map(|path| TokensFile::open(path, unlimited).map(drop));
            let entries =
                tokens_file::check_unlimited(&args.entries, unlimited.map(|token| token.key()).as_ref());
            let certificate = args.tls.given_certificate().map(drop);
            vec![
                ("token-file", token.map(drop)),
                ("tokens", tokens.transpose().map(drop)),
                ("", entries),
                ("cert", certificate),
            ]
        }
        CliCommand::Proxy(args) => vec![
            ("token-file", args.token.token().map(drop)),
            ("ca", args.tls.resolve(&args.server).map(drop)),
        ],
        _ => return (Vec::new(), false),
    };
    let failure = |(key, result): (&str, anyhow::Result<()>)| {
        let error = result.err()?;
        let line = invocation.options.find(key).and_then(ResolvedOption::line);
        let place = line.map(|line| format!("line {line}: {key}: ")).unwrap_or_default();
        Some(format!("{name}: {place}{error:#}"))
    };
    (failures.into_iter().filter_map(failure).collect(), false)
}

/// Prints the options of a subcommand with where their values are from. Returns the exit status.
fn show(args: ShowArgs) -> ExitCode {
    let ShowArgs { role, options } = args;
    let line = ["underpass", role.as_str()].map(OsString::from).into_iter().chain(options);
    match CliArgs::parse_line(line.collect(), Surroundings::PROCESS) {
        Ok(invocation) => {
            let file = match invocation.options.path() {
                Some(path) => format!("# Configuration file: {}", path.display()),
                None => {
                    let places = Surroundings::PROCESS.default_files(role);
                    let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
                    format!("# No configuration file ({})", places.join(", "))
                }
            };
            output::print(format_args!("{file}\n{}", invocation.options));
            if let Some(warning) = invocation.options.warning() {
                output::complain(format_args!("warning: {warning}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => error.report(),
    }
}
