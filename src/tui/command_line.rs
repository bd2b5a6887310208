//! The command line: translates a typed line into an [`Intent`]. Every binding can be run by its name; some commands
//! take an argument. Nothing is performed here.

use super::{
    intent::{Intent, PriorityChange},
    keymap::{InputContext, Keymap, RequiredCapability},
    model::{CHART_WINDOWS, ExportFormat, LoadMeasure, Sort, SortBy},
    source::PlaybackCommand,
    theme::Theme,
};
use crate::{
    control::{SORT_KEYS, StreamFilter, parse_limits, parse_policy, parse_weight},
    ids::{IdError, NetworkError, near_miss_hint},
    telemetry::Notable,
};

/// The words that an operator can type for the time spans of [`CHART_WINDOWS`].
const WINDOW_NAMES: [&str; CHART_WINDOWS.len()] = ["30s", "2m", "5m", "15m", "30m", "1h"];

/// Commands that take an argument, and the words that the argument may begin with.
const ARGUMENTS: [(&str, &[&str]); 16] = [
    ("sort", &SORT_KEYS),
    ("theme", &Theme::NAMES),
    ("window", &WINDOW_NAMES),
    ("filter", &[]),
    ("priority", &["background", "low", "normal", "high", "urgent"]),
    ("limit", &["down", "up", "off"]),
    ("weight", &[]),
    ("policy", &["round-robin", "weighted", "least-streams", "peak-ewma"]),
    ("load", &["streams", "bytes"]),
    ("unblock", &[]),
    ("ban", &[]),
    ("unban", &[]),
    ("export", &["csv", "json"]),
    ("seek", &["start", "end"]),
    ("speed", &[]),
    ("next", &Notable::NAMES),
];

/// Commands with an argument that change the server, or play a recording: they exist only where the keymap has a
/// binding of the same name.
const REQUIRE_BINDING: [&str; 10] =
    ["priority", "limit", "weight", "policy", "unblock", "ban", "unban", "seek", "speed", "next"];

/// Bindings that cannot be run by name, because they only move a cursor or close an overlay.
const KEYS_ONLY: [&str; 13] = [
    "up",
    "down",
    "page-up",
    "page-down",
    "half-page-up",
    "half-page-down",
    "first",
    "last",
    "back",
    "command-line",
    "close",
    "more",
    "less",
];

/// Returns the names of all commands that can be run in this context, sorted; the command line completes these.
pub(crate) fn names(keymap: &Keymap, context: InputContext) -> Vec<&'static str> {
    let bindings = keymap.commands(context).into_iter().map(|binding| binding.name);
    let mut names: Vec<&'static str> = bindings.filter(|name| !KEYS_ONLY.contains(name)).collect();
    names.extend(ARGUMENTS.iter().map(|(name, _)| *name).filter(|name| !REQUIRE_BINDING.contains(name)));
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the words that the argument of this command may begin with; none if any text is possible.
pub(crate) fn argument_words(command: &str) -> &'static [&'static str] {
    ARGUMENTS.iter().find(|(known, _)| *known == command).map_or(&[], |(_, words)| *words)
}

/// Parses a line that was typed into the command line into the intent that it names, for what is selected in
/// `context`.
pub(crate) fn parse(keymap: &Keymap, context: InputContext, line: &str) -> Result<Intent, String> {
    let (name, argument) = line.split_once(' ').map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let has = |name: &str| keymap.commands(context).iter().any(|binding| binding.name == name);
    let (is_bound, is_limit_bound) = (|| has(name), || has("limit"));
    match name {
        "sort" => with_argument(name, argument, SortBy::named)
            .map(|by| Intent::SetSort(Sort { by, reversed: false })),
        "theme" => with_argument(name, argument, Theme::named).map(|theme| Intent::SetTheme(Box::new(theme))),
        "window" => with_argument(name, argument, parse_window).map(Intent::SetChartWindow),
        "filter" if !argument.is_empty() => match StreamFilter::parse(argument) {
            Ok(filter) => Ok(Intent::SetFilter(filter)),
            Err(error) => Err(error.to_string()),
        },
        "unblock" if !argument.is_empty() && is_bound() => {
            argument.parse().map(Intent::Unblock).map_err(|why: IdError| why.to_string())
        }
        "ban" if !argument.is_empty() && is_bound() => {
            argument.parse().map(Intent::Ban).map_err(|why: NetworkError| why.to_string())
        }
        "unban" if !argument.is_empty() && is_bound() => {
            argument.parse().map(Intent::Unban).map_err(|why: NetworkError| why.to_string())
        }
        "seek" if !argument.is_empty() && is_bound() => parse_seek(argument).map(Intent::Play),
        "speed" if !argument.is_empty() && is_bound() => match argument.trim_end_matches(['x', '×']).parse()
        {
            Ok(speed) if (MIN_SPEED..=MAX_SPEED).contains(&speed) => {
                Ok(Intent::Play(PlaybackCommand::SetSpeed(speed)))
            }
            _ => Err(format!("expected: a number from {MIN_SPEED} to {MAX_SPEED}")),
        },
        "next" if !argument.is_empty() && is_bound() => with_argument(name, argument, Notable::named)
            .map(|kind| Intent::Play(PlaybackCommand::Next(Some(kind)))),
        "load" => with_argument(name, argument, parse_load_measure).map(Intent::SetLoadMeasure),
        "export" if argument.is_empty() => Ok(Intent::Export(ExportFormat::Csv)),
        "export" => with_argument(name, argument, parse_export_format).map(Intent::Export),
        // As in vi and less.
        "q" | "quit" if argument.is_empty() && keymap.may_shut_down() => Ok(Intent::Quit),
        "q!" | "quit!" if argument.is_empty() && keymap.may_shut_down() => Ok(Intent::QuitNow),
        "q" | "q!" | "quit!" => {
            Err(keymap.why_no_command("quit").unwrap_or_else(|| format!("{name} takes no argument")))
        }
        "priority" if is_bound() => with_argument(name, argument, |word| word.parse().ok())
            .map(|priority| Intent::SetPriority(PriorityChange::Set(priority))),
        "limit" if !argument.is_empty() && is_bound() => {
            parse_limits(argument).map(|changes| Intent::SetLimit(None, changes))
        }
        // `down 1M`, without the name of the command.
        "down" | "up" if !argument.is_empty() && is_limit_bound() => {
            parse_limits(line).map(|changes| Intent::SetLimit(None, changes))
        }
        "weight" if !argument.is_empty() && is_bound() => {
            parse_weight(argument).map(|weight| Intent::SetWeight(None, weight))
        }
        "policy" if !argument.is_empty() && is_bound() => {
            parse_policy(argument).map(|policy| Intent::SetPolicy(None, policy))
        }
        _ => match keymap.commands(context).into_iter().find(|binding| binding.name == name) {
            // An argument that is ignored would name one object while the command acts on another.
            Some(binding) if !argument.is_empty() => Err(match binding.requires {
                RequiredCapability::None => format!("{name} takes no argument"),
                _ => format!("{name} takes no argument: it acts on what is selected or marked"),
            }),
            Some(binding) => Ok(binding.intent.clone()),
            None => {
                if let Some(why) = keymap.why_no_command(name) {
                    return Err(why);
                }
                if let Some(screens) = keymap.screens_with_command(name) {
                    return Err(format!("{name} has no effect here; it works on: {screens}"));
                }
                let hint = near_miss_hint(name, names(keymap, context));
                Err(format!("unknown command «{name}»{hint}"))
            }
        },
    }
}

/// Parses the argument of a command with `parse`. A missing argument is an error, as is one that is none of
/// [`argument_words`].
fn with_argument<T>(
    command: &str,
    argument: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    match argument {
        "" => Err(MISSING_ARGUMENT.to_owned()),
        argument => parse(argument).ok_or_else(|| format!("expected: {}", argument_words(command).join("|"))),
    }
}

/// The message for a command without the argument that it needs.
pub(crate) const MISSING_ARGUMENT: &str = "missing argument; ⇥ completes it";

/// Parses the time span of charts, such as `5m`, to its index in [`CHART_WINDOWS`]; `None` if there is no such span.
fn parse_window(word: &str) -> Option<usize> {
    WINDOW_NAMES.iter().position(|known| *known == word)
}

/// Parses what the load bars of proxies measure: `streams` or `bytes`; `None` for any other word.
fn parse_load_measure(word: &str) -> Option<LoadMeasure> {
    match word {
        "streams" => Some(LoadMeasure::Streams),
        "bytes" => Some(LoadMeasure::Bytes),
        _ => None,
    }
}

/// The lowest and the highest speed of a replay, as multiples of the recorded one.
pub(crate) const MIN_SPEED: f64 = 0.1;
/// See [`MIN_SPEED`].
pub(crate) const MAX_SPEED: f64 = 1000.0;

/// Parses where a replay goes: a time of the day (`14:05`, `14:05:30`), a distance (`+10m`, `-30s`, `+2h`), `start` or
/// `end`.
fn parse_seek(text: &str) -> Result<PlaybackCommand, String> {
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    let found = match text {
        "start" => Some(PlaybackCommand::SeekTo(0)),
        "end" => Some(PlaybackCommand::SeekTo(u64::MAX)),
        _ => match text.strip_prefix(['+', '-']) {
            Some(distance) => {
                let seconds = [("h", 3600), ("m", 60), ("s", 1)]
                    .into_iter()
                    .find_map(|(unit, seconds)| Some(number(distance.strip_suffix(unit)?)? * seconds));
                let ms = seconds.or_else(|| number(distance)).map(|seconds| seconds as i64 * 1000);
                ms.map(|ms| PlaybackCommand::SeekBy(if text.starts_with('-') { -ms } else { ms }))
            }
            None => {
                let parts: Option<Vec<u64>> = text.trim_end_matches('Z').split(':').map(number).collect();
                match parts.as_deref() {
                    Some(&[hour @ 0..24, minute @ 0..60]) => Some((hour * 60 + minute) * 60),
                    Some(&[hour @ 0..24, minute @ 0..60, second @ 0..60]) => {
                        Some((hour * 60 + minute) * 60 + second)
                    }
                    _ => None,
                }
                .map(|seconds| PlaybackCommand::SeekToTimeOfDay(seconds * 1000))
            }
        },
    };
    found
        .ok_or_else(|| "expected: a time (14:05, 14:05:30), a distance (+10m, -30s), start or end".to_owned())
}

/// Parses the file format of an export.
fn parse_export_format(word: &str) -> Option<ExportFormat> {
    match word {
        "csv" => Some(ExportFormat::Csv),
        "json" => Some(ExportFormat::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
