//! Merge patches (RFC 7396): the fields that differ between two values.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Returns the patch that makes `new` of `old`; null if they are equal.
pub(super) fn between<T: Serialize>(old: &T, new: &T) -> Value {
    // Serializing a row cannot fail: its maps have text for keys.
    match (serde_json::to_value(old), serde_json::to_value(new)) {
        (Ok(old), Ok(new)) => difference(old, new).unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

/// Returns the patch that makes `new` of `old`; `None` if they are equal.
fn difference(old: Value, new: Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(mut old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                let before = old.remove(&key).unwrap_or(Value::Null);
                if let Some(changed) = difference(before, value) {
                    patch.insert(key, changed);
                }
            }
            patch.extend(
                old.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| (key, Value::Null)),
            );
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new),
    }
}

/// Applies a patch to a row.
///
/// # Errors
/// The patched row is none: a field has a value of another type.
pub(super) fn apply<T: Serialize + DeserializeOwned>(row: &mut T, patch: Value) -> serde_json::Result<()> {
    if patch.is_null() {
        return Ok(());
    }
    let mut value = serde_json::to_value(&*row)?;
    merge(&mut value, patch);
    *row = serde_json::from_value(value)?;
    Ok(())
}

/// Merges a patch into a value; a null in the patch removes the field.
fn merge(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (key, changed) in patch {
                if changed.is_null() {
                    fields.remove(&key);
                } else {
                    merge(fields.entry(key).or_insert(Value::Null), changed);
                }
            }
        }
        // A patch of an object whose field was null: as into an empty object.
        (value, Value::Object(patch)) => {
            *value = Value::Object(Map::new());
            merge(value, Value::Object(patch));
        }
        (value, patch) => *value = patch,
    }
}
