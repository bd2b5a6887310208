//! From the command line, the environment and the configuration file to the arguments of a subcommand.

use std::{ffi::OsString, fmt, path::PathBuf, process::ExitCode};

use clap::{
    Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    CliArgs, CliCommand, ProxyArgs, ServerArgs,
    config_file::{ConfigFile, ConfigFileError, Surroundings},
    layers::{Layers, Origin, concerns_others, keys, name_places, take_switches},
    resolved::ResolvedOptions,
    tls::ProxyTlsArgs,
};
use crate::{
    cli::{WRONG_INPUT, output},
    config::{ChannelCount, Mistake, ProxyEntries, ProxyFormat, ServiceConfig, TextProxies},
    operator::Role,
};

/// A subcommand with its arguments, and where they are from.
#[derive(Debug)]
pub(in crate::cli) struct Invocation {
    /// The arguments.
    pub(in crate::cli) args: CliArgs,
    /// All options, with where their values are from.
    pub(in crate::cli) options: ResolvedOptions,
}

/// Why a command line, or the file of it, is refused.
#[derive(Debug)]
pub(in crate::cli) enum ArgsError {
    /// The command line or an environment variable is wrong, or the options do not fit together; or it asks for help or
    /// the version.
    Line(clap::Error),
    /// The configuration file is wrong.
    File(ConfigFileError),
    /// Both are: the command line whatever the file says.
    Both(clap::Error, ConfigFileError),
}

impl fmt::Display for ArgsError {
    /// Prints one line for each mistake, without the usage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Line(error) => f.write_str(&in_one_line(error)),
            Self::Both(line, file) => write!(f, "{}\n{file}", in_one_line(line)),
        }
    }
}

/// Returns the message of an error without the usage.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("error: ");
    let end = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more")).unwrap_or(text.len());
    let lines = text[..end].lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

impl From<clap::Error> for ArgsError {
    fn from(error: clap::Error) -> Self {
        Self::Line(error)
    }
}

impl From<ConfigFileError> for ArgsError {
    fn from(error: ConfigFileError) -> Self {
        Self::File(error)
    }
}

impl ArgsError {
    /// Returns whether the message names the file.
    pub(in crate::cli) fn names_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::Both(..))
    }

    /// Returns whether the file has a key that does not exist.
    pub(in crate::cli) fn has_unknown_key(&self) -> bool {
        let (Self::File(file) | Self::Both(_, file)) = self else { return false };
        file.mistakes.0.iter().any(|mistake| mistake.unknown_key.is_some())
    }

    /// Prints it. Returns the exit status.
    pub(in crate::cli) fn report(&self) -> ExitCode {
        match self {
            // Help goes to stdout, with status 0. That it cannot be printed, to a closed pipe, changes no status.
            Self::Line(error) => {
                _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_INPUT))
            }
            Self::File(file) => {
                file.to_string().lines().for_each(output::complain);
                ExitCode::from(WRONG_INPUT)
            }
            Self::Both(line, file) => {
                _ = line.print();
                file.to_string().lines().for_each(output::complain);
                ExitCode::from(WRONG_INPUT)
            }
        }
    }
}

impl CliArgs {
    /// Parses a command line, completes it from the environment and the configuration file, and checks what no single
    /// argument shows.
    ///
    /// # Errors
    /// The error names the option, variable, or line of the file, and what to write instead. Help and version are
    /// errors too, for clap.
    pub(in crate::cli) fn parse_line(
        mut line: Vec<OsString>,
        surroundings: Surroundings<'_>,
    ) -> Result<Invocation, ArgsError> {
        let (full, plain) = (Self::command(), without_environment());
        let name = line.get(1).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
        let (Some(command), Some(plain_command)) =
            (full.find_subcommand(&name), plain.find_subcommand(&name))
        else {
            // No subcommand, or help.
            let matches = full.try_get_matches_from(&line)?;
            return Ok(Invocation {
                args: Self::from_arg_matches(&matches)?,
                options: ResolvedOptions::default(),
            });
        };
        let switched_off = take_switches(command, &mut line);
        // What is missing or wrong is found below, once the line is complete.
        let Ok(given) = plain.clone().ignore_errors(true).try_get_matches_from(&line) else {
            // Help, which names the variables.
            full.clone().try_get_matches_from(&line)?;
            return Err(full.clone().error(ErrorKind::DisplayHelp, "").into());
        };
        let given = given.subcommand_matches(&name).cloned().unwrap_or_default();
        let role = Role::of(&name);
        // Where the file is wrong, too, it does not hide what is wrong without it.
        let with_line = |file: ConfigFileError| {
            let (layers, _) = Layers::collect(command, (&given, &switched_off), surroundings, None);
            match plain.clone().try_get_matches_from(with_words(&line, &layers)) {
                Err(error) if !concerns_others(&error) => ArgsError::Both(error, file),
                _ => ArgsError::File(file),
            }
        };
        let file = match role {
            Some(role) => {
                // The lenient parser stops at a word that it does not know.
                let named = given.get_one::<PathBuf>("config").cloned().or_else(|| file_named_in(&line));
                let is_secret = |key: &str| {
                    role.tables().contains(&key)
                        || keys(command).any(|(arg, name)| name == key && arg.is_hide_env_values_set())
                };
                let defaults = surroundings.default_files(role);
                ConfigFile::find(named.as_deref(), &defaults, is_secret).map_err(with_line)?
            }
            None => None,
        };
        let (layers, mut mistakes) =
            Layers::collect(command, (&given, &switched_off), surroundings, file.as_ref().zip(role));
        let matches = plain.clone().try_get_matches_from(with_words(&line, &layers));
        // In the file of a proxy the table is an unknown key.
        let with_entries = file.as_ref().filter(|_| role == Some(Role::Server));
        let entries = with_entries.map(|file| ProxyEntries::of(&file.table));
        if let Some(file) = &file {
            if matches.is_err() || !mistakes.is_empty() {
                mistakes.extend(layers.wrong_values(plain_command));
            }
            if let Some(Err(wrong)) = &entries {
                mistakes.extend(wrong.0.iter().cloned());
            }
            if !mistakes.is_empty() {
                if let Some(role) = role {
                    name_places(&mut mistakes, command, role);
                }
                mistakes.sort_by_key(|mistake| mistake.line);
                return Err(with_line(file.error(mistakes)));
            }
        }
        let matches = matches.map_err(|error| explain(error, &layers, file.as_ref()))?;
        let mut args = Self::from_arg_matches(&matches)?;
        if let (CliCommand::Server(server), Some(Ok(entries))) = (&mut args.command, entries)
            // Those of a layer above take the place of these.
            && !matches!(layers.origin("tokens"), Origin::CommandLine | Origin::Environment(_))
        {
            server.entries = entries;
        }
        if let Some(conflict) = args.conflict() {
            return Err(conflict.into_error(plain_command.clone(), &layers, file.as_ref()));
        }
        let matches = matches.subcommand_matches(&name).cloned().unwrap_or_default();
        let options = ResolvedOptions::new(command, &matches, &layers, file);
        Ok(Invocation { args, options })
    }
}

/// Returns the file that a command line names with `--config`, wherever it stands.
fn file_named_in(line: &[OsString]) -> Option<PathBuf> {
    let mut words = line.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(file) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(PathBuf::from(file));
        }
    }
    None
}

/// Returns a command line with the words of the layers below it.
fn with_words(line: &[OsString], layers: &Layers) -> Vec<OsString> {
    let (subcommand, options) = line.split_at(line.len().min(2));
    subcommand.iter().cloned().chain(layers.words()).chain(options.iter().cloned()).collect()
}

/// Returns the command line without the environment, which is a layer of its own.
fn without_environment() -> Command {
    CliArgs::command().mut_subcommands(|command| command.mut_args(|arg| arg.env(None)))
}

/// Says in an error where the options that it names are set.
fn explain(mut error: clap::Error, layers: &Layers, file: Option<&ConfigFile>) -> clap::Error {
    let mut tips = layers.tips(&error.to_string(), error.kind());
    if let (ErrorKind::MissingRequiredArgument, Some(file)) = (error.kind(), file) {
        tips.push(format!("{} does not have them either", file.path.display()));
    }
    if !tips.is_empty() {
        let tips = tips.into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// What is wrong with arguments together, or with one that its parser leaves unchecked.
struct Conflict {
    /// What it is for clap.
    kind: ErrorKind,
    /// The option whose value is wrong; `None` where several do not fit together.
    key: Option<&'static str>,
    /// What is wrong, and what to do.
    message: String,
}

impl Conflict {
    /// Returns the error, which says where the options are set.
    fn into_error(self, mut command: Command, layers: &Layers, file: Option<&ConfigFile>) -> ArgsError {
        let Self { kind, key, mut message } = self;
        if let Some(key) = key {
            match (layers.origin(key), file) {
                (Origin::File(_, line), Some(file)) => {
                    return file.error(vec![Mistake::at(line, key, message)]).into();
                }
                (Origin::Environment(name), _) => message = format!("{name}: {message}"),
                _ => message = format!("--{key}: {message}"),
            }
        } else {
            for tip in layers.tips(&message, kind) {
                message += &format!("\n\n  tip: {tip}");
            }
        }
        // For the name of the program in the usage.
        let name = format!("underpass {}", command.get_name());
        command = command.bin_name(name);
        command.error(kind, message).into()
    }
}

impl CliArgs {
    /// Returns what is wrong with the arguments together, or with the token.
    fn conflict(&self) -> Option<Conflict> {
        let (networks, token) = match &self.command {
            CliCommand::Server(args) => (args.networks.networks().map(drop), args.token.check()),
            CliCommand::Proxy(args) => (args.services.services().map(drop), args.token.check()),
            CliCommand::Token(args) => (Ok(()), args.token.check()),
            CliCommand::Demo(_)
            | CliCommand::Config(_)
            | CliCommand::Operate(_)
            | CliCommand::Completions(_)
            | CliCommand::Complete(_)
            | CliCommand::Replay(_)
            | CliCommand::Attach(_)
            | CliCommand::ControlRelay(_)
            | CliCommand::ContinueJob(_)
            | CliCommand::Man(_) => return None,
        };
        if let Err(error) = networks {
            let message = format!("--allow and --deny: {error}");
            return Some(Conflict { kind: ErrorKind::TooManyValues, key: None, message });
        }
        if let Err(error) = token {
            let (kind, message) = (ErrorKind::ValueValidation, error.to_string());
            return Some(Conflict { kind, key: Some("token"), message });
        }
        if let CliCommand::Proxy(args) = &self.command
            && let Some(message) = ProxyTlsArgs::repetition(&args.server)
        {
            return Some(Conflict { kind: ErrorKind::ArgumentConflict, key: Some("server"), message });
        }
        let message = match &self.command {
            CliCommand::Server(args) => args.conflict(),
            CliCommand::Proxy(args) => args.conflict(),
            _ => None,
        };
        Some(Conflict { kind: ErrorKind::ArgumentConflict, key: None, message: message? })
    }
}

impl ServerArgs {
    /// Returns what is wrong with the arguments together.
    fn conflict(&self) -> Option<String> {
        if self.text == TextProxies::Off && self.text_without_token {
            let text =
                "--text off refuses the proxies that --text-without-token lets in: leave one of them out";
            return Some(text.to_owned());
        }
        if self.tokens.is_some() && self.has_entries() {
            let text = "--tokens names a file of proxies, and the configuration file has entries [[proxy]], too: move them to one \
                        of the two";
            return Some(text.to_owned());
        }
        self.tls.conflict(self.listen, self.text)
    }
}

impl ProxyArgs {
    /// Returns what is wrong with the arguments together.
    fn conflict(&self) -> Option<String> {
        let is_text = self.format == ProxyFormat::Text;
        if is_text && matches!(self.channels, ChannelCount::Fixed(2..)) {
            let text = "--format text has one channel: leave --channels out, or use --format binary";
            return Some(text.to_owned());
        }
        let services = self.services();
        if is_text && services.iter().any(|service| service.proxy_protocol.is_some()) {
            let text = "--format text does not carry the user's address, which --proxy-protocol sends to the target: use \
                        --format binary";
            return Some(text.to_owned());
        }
        let unfit = ServiceConfig::check_all(&services, self.format).err().map(|error| error.to_string());
        unfit.or_else(|| self.tls.conflict(&self.server, self.format))
    }
}

#[cfg(test)]
mod tests;
