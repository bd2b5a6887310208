//! The layers that options come from: the command line wins over environment variables, those over the configuration
//! file, and that over the defaults.
//!
//! What environment and file say becomes words of the command line, so that one list of options and one parser for each
//! value serve all three. A switch that is off has no word.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    mem::discriminant,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, Id, ValueHint,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{
    config_file::{ConfigFile, Surroundings},
    services::table_values,
};
use crate::{
    config::{Mistake, RawKey, RawValue, UnknownKey},
    operator::Role,
};

/// The options of the command line that are no keys of a file.
const NO_KEYS: [&str; 3] = ["config", "help", "version"];

/// Options that belong to another one, of the same layer or one above: the key of a certificate is not that of another.
const COMPANIONS: [(&str, &str); 1] = [("key", "cert")];

/// Where the value of an option is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Origin {
    /// The program.
    Default,
    /// This line of the configuration file.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// An option that is set somewhere.
struct SetOption {
    /// Its id.
    id: Id,
    /// Its name.
    key: String,
    /// Where it is set.
    origin: Origin,
    /// Its words, unless it is on the command line anyway.
    words: Vec<OsString>,
    /// Whether it is a switch that is off.
    is_off: bool,
}

/// The options of one subcommand that are set somewhere, each in the layer that wins.
pub(super) struct Layers(Vec<SetOption>);

impl Layers {
    /// Collects what the command line, environment and file set. `given` is what the command line gives, and
    /// `switched_off` the switches that it turns off. Returns what is wrong with the file, too: unknown keys, and
    /// values of another type.
    pub(super) fn collect(
        command: &Command,
        (given, switched_off): (&ArgMatches, &[String]),
        surroundings: Surroundings<'_>,
        file: Option<(&ConfigFile, Role)>,
    ) -> (Self, Vec<Mistake>) {
        let mut layers = Self(Vec::new());
        for (arg, key) in keys(command) {
            let is_off = switched_off.iter().any(|off| off == key);
            let is_given = given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            if is_off || is_given {
                layers.add(command, arg, Origin::CommandLine, Vec::new(), is_off && !is_given);
            }
        }
        for (arg, key) in keys(command) {
            let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { continue };
            // A variable that is set to nothing is one that is not set, but for a token, which is refused.
            let is_set = |value: &OsString| !value.is_empty() || arg.is_hide_env_values_set();
            if let Some(value) = (surroundings.variable)(name).filter(is_set) {
                layers.add(command, arg, Origin::Environment(name.to_owned()), vec![word(key, value)], false);
            }
        }
        let mistakes = file.map_or_else(Vec::new, |(file, role)| layers.add_file(command, file, role));
        (layers, mistakes)
    }

    /// Adds what a file sets. Returns what is wrong with it.
    fn add_file(&mut self, command: &Command, file: &ConfigFile, role: Role) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let directory = file.path.parent().unwrap_or(Path::new(""));
        for key in &file.table.keys {
            if role.tables().contains(&&key.name[..]) {
                continue;
            }
            let Some((arg, _)) = keys(command).find(|(_, name)| *name == key.name) else {
                let known = keys(command).map(|(_, name)| name).chain(role.tables().iter().copied());
                let mut unknown = Mistake::unknown(key.line, "", &key.name, known);
                if key.value.is_table() {
                    unknown.why += &without_table(&key.name, role);
                }
                mistakes.push(unknown);
                continue;
            };
            let origin_of = |line| Origin::File(file.path.clone(), line);
            if let (RawValue::Tables(tables), "service") = (&key.value, &key.name[..]) {
                match table_values(tables) {
                    Ok(values) => values.into_iter().for_each(|(line, value)| {
                        let words = vec![word(&key.name, value.into())];
                        self.add(command, arg, origin_of(line), words, false);
                    }),
                    Err(wrong) => mistakes.extend(wrong),
                }
                continue;
            }
            if key.value.is_table() && key.name != role.table_with_keys().0 {
                let why =
                    format!("expected a text or a number, not a table{}", without_table(&key.name, role));
                mistakes.push(Mistake::at(key.line, &key.name, why));
                continue;
            }
            match words(arg, key, directory) {
                Ok(words) => {
                    let (origin, is_off) = (origin_of(key.line), words.is_empty());
                    self.add(command, arg, origin, words, is_off);
                }
                Err(why) => mistakes.push(Mistake::at(key.line, &key.name, why)),
            }
        }
        mistakes
    }

    /// Adds an option that a layer sets, unless a layer above sets it, or another one that excludes it.
    fn add(&mut self, command: &Command, arg: &Arg, origin: Origin, words: Vec<OsString>, is_off: bool) {
        let gives_way = |above: &SetOption| {
            discriminant(&above.origin) != discriminant(&origin)
                && (above.id == *arg.get_id()
                    || belongs_to(arg, above)
                    || !above.is_off && !is_off && excludes(command, arg, &above.id))
        };
        if !self.0.iter().any(gives_way) {
            let key = arg.get_long().unwrap_or_default().to_owned();
            self.0.push(SetOption { id: arg.get_id().clone(), key, origin, words, is_off });
        }
    }

    /// Returns the words of environment and file.
    pub(super) fn words(&self) -> impl Iterator<Item = OsString> {
        self.0.iter().flat_map(|option| option.words.iter().cloned())
    }

    /// Returns where an option is set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let found = self.0.iter().find(|option| option.key == key);
        found.map_or(Origin::Default, |option| option.origin.clone())
    }

    /// Returns the values of the file that their options cannot have.
    pub(super) fn wrong_values(&self, command: &Command) -> Vec<Mistake> {
        let check = |option: &SetOption| {
            let Origin::File(_, line) = option.origin else { return None };
            let line_of_one = std::iter::once(command.get_name().into()).chain(option.words.iter().cloned());
            let error = command.clone().try_get_matches_from(line_of_one).err()?;
            (!concerns_others(&error)).then(|| Mistake::at(line, &option.key, reason(&error)))
        };
        self.0.iter().filter_map(check).collect()
    }

    /// Returns for an error message where the options that it names are set, unless on the command line.
    pub(super) fn tips(&self, message: &str, kind: ErrorKind) -> Vec<String> {
        let elsewhere = |option: &&SetOption| option.origin != Origin::CommandLine;
        let concerns = |option: &&SetOption| match kind {
            // Its message names no option.
            ErrorKind::InvalidUtf8 => option.words.iter().any(|word| word.to_str().is_none()),
            _ => message
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .any(|word| word.strip_prefix("--").is_some_and(|name| name == option.key)),
        };
        let options = self.0.iter().filter(elsewhere).filter(concerns);
        options.map(|option| format!("--{} is set in {}", option.key, option.origin)).collect()
    }
}

/// Returns what to write in place of a table that a file cannot have, as the end of a sentence.
fn without_table(name: &str, role: Role) -> String {
    let (table, _) = role.table_with_keys();
    format!(
        "; the only tables are [[{table}]]: write the keys of [{name}] without a table, above the first [[{table}]]"
    )
}

/// Says of unknown keys where they belong, if there are such elsewhere in a file: most often they are behind the last
/// table instead of above the first one.
pub(super) fn name_places(mistakes: &mut [Mistake], command: &Command, role: Role) {
    let (table, table_keys) = role.table_with_keys();
    for mistake in mistakes {
        let Some(key) = &mistake.unknown_key else { continue };
        let place = if !mistake.place.is_empty() && keys(command).any(|(_, name)| name == key) {
            format!("a key of the whole file: write it above the first [[{table}]]")
        } else if mistake.place.is_empty() && table_keys.contains(&&key[..]) {
            format!("a key of [[{table}]]: write it below such a line")
        } else {
            continue;
        };
        // It is not misspelt: a similar name is no advice.
        mistake.why = format!("{}; «{key}» is {place}", UnknownKey::new(key, []));
    }
}

/// Returns whether an error is that options do not fit together, which is found only after all values were accepted.
pub(super) fn concerns_others(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict)
}

/// Returns the options of a subcommand that are keys of a file, with their names.
pub(super) fn keys(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let named = command.get_arguments().filter_map(|arg| Some((arg, arg.get_long()?)));
    named.filter(|(_, name)| !NO_KEYS.contains(name))
}

/// Returns whether an option belongs to `above`, which another layer sets.
fn belongs_to(arg: &Arg, above: &SetOption) -> bool {
    COMPANIONS.iter().any(|(key, owner)| arg.get_long() == Some(*key) && above.key == *owner)
}

/// Returns whether one of two options excludes the other.
fn excludes(command: &Command, arg: &Arg, other: &Id) -> bool {
    let named_by = |arg: &Arg, other: &Id| {
        command.get_arg_conflicts_with(arg).into_iter().any(|excluded| excluded.get_id() == other)
    };
    let other_arg = command.get_arguments().find(|arg| arg.get_id() == other);
    named_by(arg, other) || other_arg.is_some_and(|other| named_by(other, arg.get_id()))
}

/// Removes the words `--SWITCH=false` from a command line, and shortens `--SWITCH=true`. Of several words for one
/// switch the last one applies. Returns the names of those that are off.
pub(super) fn take_switches(command: &Command, line: &mut Vec<OsString>) -> Vec<String> {
    let switch = |word: &OsString| {
        let text = word.to_str()?.strip_prefix("--")?;
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        let is_on = value.parse::<bool>().ok()?;
        let is_switch =
            |(arg, key): (&Arg, &str)| key == name && matches!(arg.get_action(), ArgAction::SetTrue);
        keys(command).any(is_switch).then(|| (name.to_owned(), is_on))
    };
    let is_end = |word: &OsString| word == "--";
    let end = line.iter().position(is_end).unwrap_or(line.len());
    let last: HashMap<_, _> = line[..end].iter().filter_map(switch).collect();
    let rest = line.split_off(end);
    line.retain(|word| switch(word).is_none());
    line.extend(last.iter().filter(|(_, is_on)| **is_on).map(|(name, _)| format!("--{name}").into()));
    line.extend(rest);
    last.into_iter().filter(|(_, is_on)| !is_on).map(|(name, _)| name).collect()
}

/// Returns the words for a key of a file. A path is relative to `directory`, that of the file.
fn words(arg: &Arg, key: &RawKey, directory: &Path) -> Result<Vec<OsString>, String> {
    let value = |text: &String| match arg.get_value_hint() {
        ValueHint::AnyPath => word(&key.name, directory.join(text).into()),
        // A name or a path.
        ValueHint::FilePath if text.contains('/') => word(&key.name, directory.join(text).into()),
        _ => word(&key.name, text.into()),
    };
    match (&key.value, arg.get_action()) {
        (RawValue::Switch(true), ArgAction::SetTrue) => Ok(vec![format!("--{}", key.name).into()]),
        (RawValue::Switch(false), ArgAction::SetTrue) => Ok(Vec::new()),
        (_, ArgAction::SetTrue) => Err("expected true or false, without quotes".to_owned()),
        (RawValue::Text(text), _) => Ok(vec![value(text)]),
        (RawValue::List(texts), ArgAction::Append) if texts.is_empty() => {
            Err("the list is empty: leave the key out".to_owned())
        }
        (RawValue::List(texts), ArgAction::Append) => Ok(texts.iter().map(value).collect()),
        (RawValue::List(_), _) => Err("expected one value, not a list".to_owned()),
        (RawValue::Switch(_), _) => {
            let possible: Vec<_> =
                arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            Err(match possible.is_empty() {
                true => "expected a text in quotes, or a number".to_owned(),
                false => format!("expected in quotes: {}", possible.join(", ")),
            })
        }
        (value, _) if value.is_table() => {
            Err(format!("write a line [[{}]], in two pairs of brackets, above the keys of each", key.name))
        }
        (RawValue::Tables(_), _) => Err("expected a text or a number, not tables".to_owned()),
        (RawValue::Other(kind), _) => Err(format!("expected a text or a number, not {kind}")),
    }
}

/// Returns the word that sets an option.
fn word(key: &str, value: OsString) -> OsString {
    let mut word = OsString::from(format!("--{key}="));
    word.push(value);
    word
}

/// Returns what an error says about the value of the only option, without naming that again.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue)
        && !valid.is_empty()
    {
        return format!("expected {}", valid.join(", "));
    }
    let text = error.to_string();
    text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned()
}
