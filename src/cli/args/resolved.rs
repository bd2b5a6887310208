//! The options of an invocation with their values, and where these are from: for `config show`, and to find what a file
//! that is read again has changed.

use std::{fmt, path::Path};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{
    config_file::ConfigFile,
    layers::{Layers, Origin, keys},
};
use crate::config::{RawKey, RawTable, RawValue};

/// What stands for the value of a secret.
const MASKED: &str = "\"***\"";

/// The options of an invocation.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct ResolvedOptions {
    /// All options, in the order of the help.
    options: Vec<ResolvedOption>,
    /// The configuration file, if there is one.
    file: Option<ConfigFile>,
}

/// An option with its values.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) struct ResolvedOption {
    /// Its name.
    pub(super) key: String,
    /// Its values as they are written; none if it has no value.
    pub(super) values: Vec<String>,
    /// Where they are from.
    pub(super) origin: Origin,
    /// What applies without a value, in words.
    default: Option<String>,
    /// How it is written in a file.
    form: Form,
    /// Whether its value is a secret.
    is_secret: bool,
}

/// How the values of an option are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `true` or `false`.
    Switch,
    /// One value.
    Value,
    /// Values in brackets.
    List,
}

impl fmt::Debug for ResolvedOption {
    /// Prints no value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.origin)
    }
}

impl fmt::Display for ResolvedOption {
    /// Prints the option as a file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let value = |text: &String| match self.form {
            _ if self.is_secret => MASKED.to_owned(),
            Form::Switch => text.clone(),
            Form::Value | Form::List => value_text(text),
        };
        let values: Vec<_> = self.values.iter().map(value).collect();
        match (self.form, &values[..]) {
            (Form::List, _) if !values.is_empty() => write!(f, "{key} = [{}]", values.join(", ")),
            (_, [value]) => write!(f, "{key} = {value}"),
            _ => write!(f, "#{key} ="),
        }
    }
}

impl ResolvedOption {
    /// Returns its name.
    pub(in crate::cli) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the line of the configuration file that sets it, if one does.
    pub(in crate::cli) fn line(&self) -> Option<usize> {
        if let Origin::File(_, line) = self.origin { Some(line) } else { None }
    }

    /// Returns whether it is set anywhere.
    pub(in crate::cli) fn is_set(&self) -> bool {
        self.origin != Origin::Default
    }

    /// Takes over an option that was parsed.
    fn new(arg: &Arg, key: &str, matches: &ArgMatches, origin: Origin) -> Self {
        let id = arg.get_id().as_str();
        let (form, values) = match arg.get_action() {
            ArgAction::SetTrue => (Form::Switch, vec![matches.get_flag(id).to_string()]),
            action => {
                let values = matches.get_raw(id).into_iter().flatten();
                let form = if matches!(action, ArgAction::Append) { Form::List } else { Form::Value };
                (form, values.map(|value| value.to_string_lossy().into_owned()).collect())
            }
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = help.rsplit_once("[default: ").map(|(_, text)| text.trim_end_matches(']').to_owned());
        Self { key: key.to_owned(), values, origin, default, form, is_secret: arg.is_hide_env_values_set() }
    }
}

impl ResolvedOptions {
    /// Collects the options of a subcommand that was parsed.
    pub(super) fn new(
        command: &Command,
        matches: &ArgMatches,
        layers: &Layers,
        file: Option<ConfigFile>,
    ) -> Self {
        let options =
            keys(command).map(|(arg, key)| ResolvedOption::new(arg, key, matches, layers.origin(key)));
        Self { options: options.collect(), file }
    }

    /// Returns the path of the configuration file, if there is one.
    pub(in crate::cli) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Returns the options whose values differ from those in `other`, options of the same subcommand.
    pub(in crate::cli) fn differences(&self, other: &Self) -> Vec<&ResolvedOption> {
        let pairs = self.options.iter().zip(&other.options);
        pairs.filter(|(one, other)| one.values != other.values).map(|(one, _)| one).collect()
    }

    /// Returns all options.
    pub(in crate::cli) fn iter(&self) -> impl Iterator<Item = &ResolvedOption> {
        self.options.iter()
    }

    /// Returns the option with this name.
    pub(in crate::cli) fn find(&self, key: &str) -> Option<&ResolvedOption> {
        self.iter().find(|option| option.key == key)
    }

    /// Returns what the operator should know about the configuration file.
    pub(in crate::cli) fn warning(&self) -> Option<&str> {
        self.file.as_ref()?.warning.as_deref()
    }

    /// Logs where the configuration is from, and what the operator should know about it.
    pub(in crate::cli) fn log(&self) {
        let Some(file) = &self.file else { return };
        tracing::info!("configuration from {}", file.path.display());
        if let Some(warning) = self.warning() {
            tracing::warn!("{warning}");
        }
    }
}

impl fmt::Display for ResolvedOptions {
    /// Prints all options as a file has them, with where each value is from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.options.iter().map(ToString::to_string).collect();
        let width =
            lines.iter().map(|line| line.chars().count()).filter(|width| *width < 48).max().unwrap_or(0);
        for (option, line) in self.options.iter().zip(&lines) {
            let default = option.default.as_deref().filter(|_| option.values.is_empty());
            let note = default.map(|text| format!(": {text}")).unwrap_or_default();
            writeln!(f, "{line:width$}  # {}{note}", option.origin)?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        for key in &file.table.keys {
            // Services are shown as values of their option.
            let RawValue::Tables(tables) = &key.value else { continue };
            if key.name == "service" {
                continue;
            }
            for table in tables {
                writeln!(f, "\n[[{}]]  # {}, line {}", key.name, file.path.display(), table.line)?;
                write_table(f, table)?;
            }
        }
        Ok(())
    }
}

/// Prints the keys of a table as a file has them.
fn write_table(f: &mut fmt::Formatter<'_>, table: &RawTable) -> fmt::Result {
    table.keys.iter().try_for_each(|RawKey { name, value, .. }| match value {
        RawValue::Text(_) if name.starts_with("token") => writeln!(f, "{name} = {MASKED}"),
        RawValue::Text(text) => writeln!(f, "{name} = {}", value_text(text)),
        RawValue::List(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| value_text(text)).collect();
            writeln!(f, "{name} = [{}]", texts.join(", "))
        }
        RawValue::Switch(is_on) => writeln!(f, "{name} = {is_on}"),
        RawValue::Tables(_) | RawValue::Other(_) => Ok(()),
    })
}

/// Returns a value as a file has it: without quotes where it can only be a number.
fn value_text(text: &str) -> String {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole) && are_digits(part) && (whole == "0" || !whole.starts_with('0')) && whole.len() < 19
    {
        return text.to_owned();
    }
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
