//! The entries as they are written, before they are checked.

use std::num::NonZeroUsize;

use serde::Deserialize;
use toml::{Table, Value, value::Datetime};

use super::{
    super::{
        near_miss::UnknownKey,
        ports::{PortRange, PortRangeError},
    },
    entry::ProxyEntry,
    error::ProxyEntriesError,
    expiry::Expiry,
};
use crate::{
    ids::{Group, IdError},
    wire::handshake::{Token, TokenKey},
};

/// The longest name of an entry.
const MAX_NAME_CHARS: usize = 64;

/// One entry as it is written: every key may be missing, and has any type.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct RawProxyEntry {
    /// Where the entry is, for messages: its number and, once it is known, its name.
    #[serde(skip)]
    place: String,
    /// The name.
    name: Option<Value>,
    /// The token; without `token_hash`.
    token: Option<Value>,
    /// The hash of the token; without `token`.
    token_hash: Option<Value>,
    /// Ports and ranges of ports.
    ports: Option<Value>,
    /// Names of groups.
    groups: Option<Value>,
    /// A number of proxies.
    proxies: Option<Value>,
    /// A number of channels.
    channels: Option<Value>,
    /// A number of streams.
    streams: Option<Value>,
    /// A rate in bytes per second.
    rate: Option<Value>,
    /// A date, or a date and time.
    expires: Option<Value>,
}

/// The keys of an entry.
const KEYS: [&str; 10] =
    ["name", "token", "token-hash", "ports", "groups", "proxies", "channels", "streams", "rate", "expires"];

/// Parses the text of a file of entries, and checks that all of its keys exist.
pub(super) fn parse(text: &str) -> Result<Vec<RawProxyEntry>, ProxyEntriesError> {
    // The error's own text quotes the line, which may be that of a token; its message quotes no value.
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        ProxyEntriesError::Syntax { line: before.matches('\n').count() + 1, what: error.message().to_owned() }
    })?;
    if let Some(key) = UnknownKey::find(&table, &["proxy"]) {
        return Err(ProxyEntriesError::Unknown { place: "outside of [[proxy]]".to_owned(), key });
    }
    let not_entries = || ProxyEntriesError::Invalid {
        place: "proxy".to_owned(),
        key: "[[proxy]]",
        why: "each entry begins with a line [[proxy]], in two pairs of brackets".to_owned(),
    };
    let entries = match table.get("proxy") {
        None => return Ok(Vec::new()),
        Some(entries) => entries.as_array().ok_or_else(not_entries)?,
    };
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| parse_entry(index, entry.as_table().ok_or_else(not_entries)?))
        .collect()
}

/// Reads one entry, and checks that all of its keys exist.
fn parse_entry(index: usize, table: &Table) -> Result<RawProxyEntry, ProxyEntriesError> {
    let mut place = format!("entry {}", index + 1);
    if let Some(name) = table.get("name").and_then(Value::as_str).filter(|name| is_name(name)) {
        place += &format!(" («{name}»)");
    }
    if let Some(key) = UnknownKey::find(table, &KEYS) {
        return Err(ProxyEntriesError::Unknown { place, key });
    }
    // Any value is one of the types above.
    let raw: RawProxyEntry = Value::Table(table.clone()).try_into().unwrap_or_default();
    Ok(RawProxyEntry { place, ..raw })
}

impl RawProxyEntry {
    /// Checks the values of the entry.
    pub(super) fn resolve(self) -> Result<ProxyEntry, ProxyEntriesError> {
        let place = &self.place;
        let invalid =
            |key: &'static str, why: String| ProxyEntriesError::Invalid { place: place.clone(), key, why };
        let name = match self.name.as_ref().map(Value::as_str) {
            Some(Some(name)) if is_name(name) => name.to_owned(),
            Some(_) => {
                return Err(invalid("name", expected("1 to 64 letters, digits, '.', '_' or '-' in quotes")));
            }
            None => return Err(invalid("name", "it is missing: each entry has one".to_owned())),
        };
        let key = match (&self.token, &self.token_hash) {
            (Some(token), None) => {
                let text = token.as_str().ok_or_else(|| invalid("token", expected("a text in quotes")))?;
                Token::parse(text).map_err(|error| invalid("token", error.to_string()))?.key()
            }
            (None, Some(hash)) => hash.as_str().and_then(TokenKey::parse_hash).ok_or_else(|| {
                invalid(
                    "token-hash",
                    expected("sha256: and 64 digits, as `underpass token --hash` prints it"),
                )
            })?,
            (Some(_), Some(_)) => {
                return Err(invalid("token", "there is a token-hash, too: leave one out".to_owned()));
            }
            (None, None) => {
                return Err(invalid(
                    "token",
                    "it is missing: give token or token-hash (`underpass token`)".to_owned(),
                ));
            }
        };
        let ports = list(self.ports.as_ref(), |value| match value {
            Value::Integer(port) => port.to_string().parse::<PortRange>().map_err(|error| error.to_string()),
            Value::String(range) => range.parse().map_err(|error: PortRangeError| error.to_string()),
            _ => Err(expected("ports, [8080, \"9000-9100\"]")),
        });
        let groups = list(self.groups.as_ref(), |value| {
            let name = value.as_str().ok_or_else(|| expected("names of groups, [\"default\"]"))?;
            name.parse::<Group>().map_err(|error| error.to_string())
        });
        let rate = self.rate.as_ref().map(|value| match value {
            Value::Integer(rate) => rate.to_string().parse(),
            value => value.as_str().unwrap_or_default().parse(),
        });
        let expires = self.expires.as_ref().map(|value| {
            let date = match value {
                Value::Datetime(date) => Some(*date),
                value => value.as_str().and_then(|text| text.parse::<Datetime>().ok()),
            };
            Expiry::new(date.ok_or_else(|| expected("a date, 2027-12-31"))?)
        });
        let max = |key, value: Option<&Value>| match value {
            None => Ok(None),
            Some(value) => {
                let number = value
                    .as_integer()
                    .and_then(|number| usize::try_from(number).ok())
                    .and_then(NonZeroUsize::new);
                let why = || expected("a number from 1 on; without the key there is no limit");
                number.map(Some).ok_or_else(|| invalid(key, why()))
            }
        };
        Ok(ProxyEntry {
            name,
            key,
            ports: ports.map_err(|why| invalid("ports", why))?,
            groups: groups.map_err(|why| invalid("groups", why))?,
            max_proxies: max("proxies", self.proxies.as_ref())?,
            max_channels: max("channels", self.channels.as_ref())?,
            max_streams: max("streams", self.streams.as_ref())?,
            rate: rate.transpose().map_err(|error: IdError| invalid("rate", error.to_string()))?,
            expires: expires.transpose().map_err(|why| invalid("expires", why))?,
        })
    }
}

/// Returns the beginning of a message about a value.
fn expected(what: &str) -> String {
    format!("expected {what}")
}

/// Reads a list that is not empty.
fn list<T>(
    value: Option<&Value>,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Option<Vec<T>>, String> {
    let Some(value) = value else { return Ok(None) };
    let values = value.as_array().ok_or_else(|| expected("a list in brackets"))?;
    if values.is_empty() {
        return Err(
            "the list is empty, so that nothing is allowed: leave the key out to allow all".to_owned()
        );
    }
    values.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// Returns whether an entry may have this name.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
