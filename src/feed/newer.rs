//! Lines of a newer version: a row with a value that this version does not know, such as a new phase of a stream, is
//! left out, and the line is understood without it.
//!
//! Showing such a row with the usual value instead would be a guess. Only unknown words are excused: a row without a
//! field, or with a number where a text should be, is no row of any version.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::telemetry::{
    ChannelSnapshot, Event, ProxySnapshot, SelectedStream, ServiceSnapshot, StreamSnapshot, UserSnapshot,
};

/// Returns whether JSON was not understood because of a word that a newer version may have: a variant of an enum.
pub(super) fn is_unknown_word(error: &serde_json::Error) -> bool {
    // The only kind that has a text of its own in `serde::de::Error`, and no other mark.
    error.is_data() && error.to_string().starts_with("unknown variant")
}

/// Removes from the state in a line the rows that this version does not understand. Rows that have changed are then
/// gone. Returns how many were removed.
///
/// # Errors
/// A row is none of any version.
pub(super) fn remove_unknown_rows(line: &mut Map<String, Value>) -> serde_json::Result<u64> {
    let mut removed = 0;
    if let Some(snapshot) = line.get_mut("snapshot") {
        removed += retain::<ServiceSnapshot>(snapshot, "services")?.len();
        for proxy in rows(snapshot, "proxies") {
            removed += retain::<ChannelSnapshot>(proxy, "channels")?.len();
        }
        removed += retain::<ProxySnapshot>(snapshot, "proxies")?.len();
        removed += retain::<UserSnapshot>(snapshot, "users")?.len();
        removed += retain::<StreamSnapshot>(snapshot, "streams")?.len();
        removed += retain::<SelectedStream>(snapshot, "selected")?.len();
    }
    // They are no rows of the state: one that is left out is not on the screen, and nothing else depends on it.
    if let Some(recent) = line.get_mut("recent") {
        retain::<Event>(recent, "events")?;
    }
    if let Some(changes) = line.get_mut("changes") {
        removed += retain_changes::<ServiceSnapshot>(changes, "services", "new", "key")?;
        removed += retain_changes::<ProxySnapshot>(changes, "proxies", "new", "id")?;
        removed += retain_changes::<ChannelSnapshot>(changes, "channels", "new", "id")?;
        removed += retain_changes::<UserSnapshot>(changes, "users", "rows", "number")?;
        removed += retain_changes::<StreamSnapshot>(changes, "streams", "rows", "number")?;
        removed += retain::<SelectedStream>(changes, "selected")?.len();
    }
    Ok(removed as u64)
}

/// Returns the rows in the field `name`; none if it is absent.
fn rows<'a>(parent: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Removes the rows in the field `name` that are not understood, and returns them.
fn retain<R: DeserializeOwned>(parent: &mut Value, name: &str) -> serde_json::Result<Vec<Value>> {
    let Some(rows) = parent.get_mut(name).and_then(Value::as_array_mut) else { return Ok(Vec::new()) };
    let (mut known, mut unknown) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows.drain(..) {
        match R::deserialize(&row) {
            Ok(_) => known.push(row),
            Err(error) if is_unknown_word(&error) => unknown.push(row),
            Err(error) => return Err(error),
        }
    }
    *rows = known;
    Ok(unknown)
}

/// Removes the rows of a changed table that are not understood, and adds their keys to those of rows that went: the
/// consumer may have the row as it was before.
fn retain_changes<R: DeserializeOwned>(
    changes: &mut Value,
    table: &str,
    name: &str,
    key: &str,
) -> serde_json::Result<usize> {
    let Some(table) = changes.get_mut(table).filter(|table| table.is_object()) else { return Ok(0) };
    let unknown = retain::<R>(table, name)?;
    let keys = unknown.iter().filter_map(|row| row.get(key).cloned());
    if let Some(gone) =
        table.as_object_mut().map(|table| table.entry("gone").or_insert_with(|| Value::Array(Vec::new())))
        && let Some(gone) = gone.as_array_mut()
    {
        gone.extend(keys);
    }
    Ok(unknown.len())
}
