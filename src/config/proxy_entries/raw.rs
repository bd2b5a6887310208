//! One entry as it is written, and its check.

use std::num::NonZeroUsize;

use toml::value::Datetime;

use super::{
    super::{
        mistakes::Mistake,
        ports::PortRangeError,
        raw_table::{RawTable, RawValue},
    },
    entry::ProxyEntry,
    expiry::Expiry,
};
use crate::{
    ids::{Group, IdError, Rate, is_plain_name},
    wire::handshake::{Token, TokenKey},
};

/// The keys of an entry.
pub(super) const KEYS: [&str; 10] =
    ["name", "token", "token-hash", "ports", "groups", "proxies", "channels", "streams", "rate", "expires"];

/// One entry as it is written, and what was found to be wrong with it.
struct RawProxyEntry<'a> {
    /// Its keys.
    table: &'a RawTable,
    /// Where it is, for messages: its number and, if it has a valid one, its name.
    place: String,
    /// What is wrong with it.
    mistakes: Vec<Mistake>,
}

/// Checks the `index`-th entry, from 0.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn resolve(index: usize, table: &RawTable) -> Result<ProxyEntry, Vec<Mistake>> {
    let mut raw = RawProxyEntry::new(index, table);
    let name = raw.required("name", |value| match value {
        RawValue::Text(name) if is_plain_name(name) => Ok(name.clone()),
        _ => Err(expected("1 to 64 letters, digits, '.', '_' or '-' in quotes")),
    });
    let key = raw.key();
    let ports = raw.list("ports", |text| text.parse().map_err(|error: PortRangeError| error.to_string()));
    let groups = raw.list("groups", |text| text.parse::<Group>().map_err(|error| error.to_string()));
    let (max_proxies, max_channels, max_streams) =
        (raw.maximum("proxies"), raw.maximum("channels"), raw.maximum("streams"));
    let rate = raw.optional("rate", |value| {
        text(value).unwrap_or_default().parse::<Rate>().map_err(|error: IdError| error.to_string())
    });
    let expires = raw.optional("expires", |value| {
        let date = text(value).and_then(|text| text.parse::<Datetime>().ok());
        Expiry::new(date.ok_or_else(|| expected("a date, 2027-12-31"))?)
    });
    match (name, key) {
        (Some(name), Some(key)) if raw.mistakes.is_empty() => {
            Ok(ProxyEntry { name, key, ports, groups, max_proxies, max_channels, max_streams, rate, expires })
        }
        _ => Err(raw.mistakes),
    }
}

impl<'a> RawProxyEntry<'a> {
    /// Takes over an entry, and checks that all of its keys exist.
    fn new(index: usize, table: &'a RawTable) -> Self {
        let mut place = format!("entry {}", index + 1);
        if let Some(name) =
            table.get("name").and_then(|key| text(&key.value)).filter(|name| is_plain_name(name))
        {
            place += &format!(" («{name}»)");
        }
        let unknown = table.keys.iter().filter(|key| !KEYS.contains(&&key.name[..]));
        let mistakes = unknown.map(|key| Mistake::unknown(key.line, &place, &key.name, KEYS)).collect();
        Self { table, place, mistakes }
    }

    /// Records that the value of a key is wrong, or that it is missing.
    fn wrong(&mut self, name: &str, why: String) {
        let line = self.table.get(name).map_or(self.table.line, |key| key.line);
        self.mistakes.push(Mistake::at(line, format!("{}: {name}", self.place), why));
    }

    /// Reads a key that may be missing.
    fn optional<T>(&mut self, name: &str, read: impl FnOnce(&RawValue) -> Result<T, String>) -> Option<T> {
        let value = &self.table.get(name)?.value;
        read(value).map_err(|why| self.wrong(name, why)).ok()
    }

    /// Reads a key that must be there.
    fn required<T>(&mut self, name: &str, read: impl FnOnce(&RawValue) -> Result<T, String>) -> Option<T> {
        if self.table.get(name).is_none() {
            self.wrong(name, "it is missing: each entry has one".to_owned());
        }
        self.optional(name, read)
    }

    /// Reads a list that is not empty.
    fn list<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        self.optional(name, |value| match value {
            RawValue::List(values) if values.is_empty() => {
                Err("the list is empty, so that nothing is allowed: leave the key out to allow all"
                    .to_owned())
            }
            RawValue::List(values) => values.iter().map(|value| read(value)).collect(),
            _ => Err(expected(
                "a list in brackets, such as [8080, \"9000-9100\"] for ports, [\"web\"] for groups",
            )),
        })
    }

    /// Reads a maximum number.
    fn maximum(&mut self, name: &str) -> Option<NonZeroUsize> {
        self.optional(name, |value| {
            let number = text(value).and_then(|text| text.parse().ok());
            number.ok_or_else(|| expected("a number from 1 on; without the key there is no limit"))
        })
    }

    /// Reads the token, or its hash.
    fn key(&mut self) -> Option<TokenKey> {
        match (self.table.get("token"), self.table.get("token-hash")) {
            (Some(_), None) => self.optional("token", |value| {
                let text = text(value).ok_or_else(|| expected("a text in quotes"))?;
                Token::parse(text).map(|token| token.key()).map_err(|error| error.to_string())
            }),
            (None, Some(_)) => self.optional("token-hash", |value| {
                text(value)
                    .and_then(TokenKey::parse_hash)
                    .ok_or_else(|| expected("sha256: and 64 digits, as `underpass token --hash` prints it"))
            }),
            (Some(_), Some(_)) => {
                self.wrong("token", "there is a token-hash, too: leave one out".to_owned());
                None
            }
            (None, None) => {
                let why = "it is missing: give token or token-hash (`underpass token`)";
                self.wrong("token", why.to_owned());
                None
            }
        }
    }
}

/// Returns the text of a value that is one.
fn text(value: &RawValue) -> Option<&str> {
    match value {
        RawValue::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns the beginning of a message about a value.
fn expected(what: &str) -> String {
    format!("expected {what}")
}
