//! `underpass events`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::output,
    ids::clean,
    operator::{Client, Request},
    telemetry::epoch_ms,
    tui::format::{date, time_of_day},
};

/// The longest sentence about an event, in characters.
const MAX_TEXT_CHARS: usize = 1000;

/// Which events are printed, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventsQuery {
    /// How old the refusals and failures may be that are printed first; `None` prints none.
    pub(super) since: Option<Duration>,
    /// How many events are printed; `None` goes on until the output is closed or the process ends.
    pub(super) count: Option<u64>,
    /// Whether they are sentences, and not JSON.
    pub(super) is_text: bool,
}

/// Prints events. Returns the exit status.
pub(super) async fn print(client: &mut Client, query: EventsQuery) -> Result<u8, Failure> {
    let EventsQuery { since, count, is_text } = query;
    let request = Request::Events { credit: None, recent: since.is_some() };
    let mut answer = client.request(&request).await?;
    if let Some(since) = since {
        if !answer["recent"].is_array() {
            let why = "the other process is of an older version, which keeps no refusals and failures";
            return Err(Failure::Usage(why.to_owned()));
        }
        print_recent(&serde_json::from_value::<Recent>(answer.take())?, since, is_text)?;
    }
    let mut left = count;
    while left != Some(0) {
        let line = client.next().await?;
        let of = |name: &str| line.more.get(name);
        let printed = match (of("event"), of("missed")) {
            (Some(event), _) if is_text => sentence(event, of("text")),
            (Some(event), _) => with_text(event, of("text")).to_string(),
            (None, Some(missed)) => json!({ "missed": missed }).to_string(),
            (None, None) => continue,
        };
        output::try_print(format_args!("{printed}\n")).map_err(Failure::Output)?;
        left = left.map(|left| left - 1);
    }
    Ok(0)
}

/// The refusals and failures that a process has kept.
#[derive(Debug, Deserialize)]
struct Recent {
    /// The events, each with the sentence about it.
    recent: Vec<Value>,
    /// How many others there were.
    #[serde(default)]
    dropped: u64,
}

/// Prints the refusals and failures of the time `since` before now, and how many are not kept.
fn print_recent(recent: &Recent, since: Duration, is_text: bool) -> Result<(), Failure> {
    let now_ms = epoch_ms();
    let begin_ms = now_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let time_of = |line: &Value| line["event"]["epoch_ms"].as_u64().unwrap_or_default();
    let lines: Vec<&Value> = recent.recent.iter().filter(|line| time_of(line) >= begin_ms).collect();
    // They are older than those that are kept, or were too many in a second.
    if recent.dropped > 0 && lines.len() == recent.recent.len() {
        let dropped = recent.dropped;
        output::complain(format_args!(
            "{dropped} other refusals and failures are not kept; the log has them"
        ));
    }
    for line in lines {
        let (event, text) = (&line["event"], line.get("text"));
        let printed = match is_text {
            true if date(time_of(line)) != date(now_ms) => {
                format!("{} {}", date(time_of(line)), sentence(event, text))
            }
            true => sentence(event, text),
            false => with_text(event, text).to_string(),
        };
        output::try_print(format_args!("{printed}\n")).map_err(Failure::Output)?;
    }
    Ok(())
}

/// Returns an event with the sentence about it.
fn with_text(event: &Value, text: Option<&Value>) -> Value {
    let mut event = event.clone();
    if let (Some(fields), Some(text)) = (event.as_object_mut(), text) {
        fields.insert("text".to_owned(), text.clone());
    }
    event
}

/// Returns the sentence about an event, with the time of day.
fn sentence(event: &Value, text: Option<&Value>) -> String {
    let time = time_of_day(event["epoch_ms"].as_u64().unwrap_or_default());
    format!("{time} {}", clean(text.and_then(Value::as_str).unwrap_or_default(), MAX_TEXT_CHARS))
}
