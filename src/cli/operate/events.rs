//! `underpass events`.

use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::output,
    ids::clean,
    operator::{Client, Request},
    tui::format::time_of_day,
};

/// The longest sentence about an event, in characters.
const MAX_TEXT_CHARS: usize = 1000;

/// Prints events until `count` were printed, the output is closed or the process ends. Returns the exit status.
pub(super) async fn print(client: &mut Client, count: Option<u64>, is_text: bool) -> Result<u8, Failure> {
    client.request(&Request::Events { credit: None }).await?;
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
