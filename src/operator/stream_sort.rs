//! The order of listed streams.

use std::{cmp::Ordering, net::SocketAddr, str::FromStr};

use super::rows::StreamRow;
use crate::{
    control::SORT_KEYS,
    ids::{ChannelId, Priority, ProxyId, ServiceKey, StreamKey},
};

/// What streams are sorted by, under the names of the cockpit's command `sort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSort(&'static str);

impl Default for StreamSort {
    fn default() -> Self {
        Self("down")
    }
}

impl StreamSort {
    /// Returns the sort key with this name.
    ///
    /// # Errors
    /// A message for the operator, with the names.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = SORT_KEYS.into_iter().find(|known| *known == name);
        found.map(Self).ok_or_else(|| format!("unknown sort key «{name}»; expected: {}", SORT_KEYS.join("|")))
    }

    /// Returns whether rates have to be known.
    pub fn needs_rates(self) -> bool {
        matches!(self.0, "up" | "down")
    }

    /// Compares two rows: the fastest, the largest and the newest first, names from A; then by key.
    pub fn compare(self, a: &StreamRow, b: &StreamRow) -> Ordering {
        let largest = |of: fn(&StreamRow) -> u64| of(b).cmp(&of(a));
        let text = |of: fn(&StreamRow) -> Option<&str>| of(a).cmp(&of(b));
        let order = match self.0 {
            "state" => text(|row| Some(&row.state)),
            "service" => typed::<ServiceKey>(Some(&a.service)).cmp(&typed(Some(&b.service))),
            "proxy" => typed::<ProxyId>(a.proxy.as_deref()).cmp(&typed(b.proxy.as_deref())),
            "channel" => typed::<ChannelId>(a.channel.as_deref()).cmp(&typed(b.channel.as_deref())),
            "user" => typed::<SocketAddr>(Some(&a.address)).cmp(&typed(Some(&b.address))),
            "content" => text(|row| row.content.as_deref()),
            "priority" => largest(|row| {
                let priority = row.priority.as_ref().and_then(|priority| priority.parse().ok());
                priority.map_or(0, |priority: Priority| priority as u64)
            }),
            "up" => largest(|row| row.up_rate.unwrap_or_default()),
            "down" => largest(|row| row.down_rate.unwrap_or_default()),
            "up-bytes" => largest(|row| row.up),
            "down-bytes" => largest(|row| row.down),
            "progress" => {
                // In thousandths; those of unknown size come last.
                let share = |row: &StreamRow| {
                    let (arrived, size) = row.arrived.zip(row.size)?;
                    Some(u128::from(arrived) * 1000 / u128::from(size.max(1)))
                };
                share(b).cmp(&share(a))
            }
            "age" => a.age_ms.cmp(&b.age_ms),
            "bytes" => largest(StreamRow::bytes),
            _ => Ordering::Equal,
        };
        let key = |row: &StreamRow| row.key.parse::<StreamKey>().ok();
        order.then_with(|| key(a).cmp(&key(b)))
    }
}

/// Returns the value of a text; texts without one come last.
fn typed<T: FromStr>(text: Option<&str>) -> (bool, Option<T>) {
    let value = text.and_then(|text| text.parse().ok());
    (value.is_none(), value)
}

#[cfg(test)]
mod tests;
