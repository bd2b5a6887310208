//! The entries of the tokens file: what they may contain, and what is wrong with one.

use super::*;
use crate::wire::handshake::Token;

/// The text of an entry for `alice` with another token for each call, and `more` keys.
fn entry(more: &str) -> String {
    format!("[[proxy]]\nname = \"alice\"\ntoken = \"{}\"\n{more}\n", Token::random().reveal())
}

fn only(text: &str) -> ProxyEntry {
    let entries = ProxyEntries::parse(text).unwrap();
    assert_eq!(entries.iter().count(), 1);
    entries.iter().next().unwrap().clone()
}

#[test]
fn an_entry_has_a_token_and_rights() {
    let token = Token::random();
    let text = format!(
        "[[proxy]]\nname = \"alice\"\ntoken-hash = \"{}\"\nports = [8080, \"9000-9100\"]\ngroups = [\"web\"]\n\
         proxies = 2\nchannels = 16\nstreams = 1000\nrate = \"10M\"\nexpires = 2027-12-31\n",
        token.key().reveal_hash()
    );
    let alice = only(&text);
    assert_eq!(alice.name(), "alice");
    assert!(*alice.key() == token.key());
    let allows = |port| alice.ports().unwrap().iter().any(|range| range.contains(port));
    assert!([8080, 9000, 9100].into_iter().all(allows) && ![8079, 8999, 9101].into_iter().any(allows));
    assert_eq!(alice.groups().unwrap()[0].as_str(), "web");
    assert_eq!(alice.max_proxies().unwrap().get(), 2);
    assert_eq!(alice.max_channels().unwrap().get(), 16);
    assert_eq!(alice.max_streams().unwrap().get(), 1000);
    assert_eq!(alice.rate().unwrap().bytes_per_second(), 10_000_000);
    let plain = only(&format!("[[proxy]]\nname = \"bob\"\ntoken = \"{}\"", token.reveal()));
    assert_eq!(plain.key(), alice.key());
    assert_eq!((plain.ports(), plain.groups(), plain.max_proxies(), plain.rate()), (None, None, None, None));
    assert!(ProxyEntries::parse("# none yet").unwrap().iter().next().is_none());
}

#[test]
fn the_documented_example_is_parsed() {
    let alice = only(include_str!("../../../assets/examples/tokens.toml"));
    assert_eq!(
        (alice.name(), alice.ports().unwrap().len(), alice.max_streams().unwrap().get()),
        ("alice", 2, 1000)
    );
}

#[test]
fn a_token_is_valid_until_the_end_of_its_day_or_until_an_instant() {
    // 2027-12-31T00:00:00Z and 2024-02-29T00:00:00Z, from `date -u -d`.
    for (expires, at) in [
        ("2027-12-31", 1_830_211_200 + 86_400),
        ("\"2027-12-31\"", 1_830_211_200 + 86_400),
        ("2024-02-29", 1_709_164_800 + 86_400),
        ("2027-12-31T18:30:15Z", 1_830_211_200 + 66_615),
        ("\"2027-12-31T18:30:15+02:00\"", 1_830_211_200 + 59_415),
        ("1969-07-20", 0),
    ] {
        let alice = only(&entry(&format!("expires = {expires}")));
        let at = at * 1000;
        assert!(alice.has_expired(at), "{expires}");
        assert!(at == 0 || !alice.has_expired(at - 1), "{expires}");
    }
    assert!(!only(&entry("")).has_expired(u64::MAX));
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_to_write() {
    let token = Token::random();
    let token = token.reveal();
    for (text, expected) in [
        (entry("prots = [1]"), "entry 1 («alice»): there is no setting «prots»; did you mean «ports»?"),
        (entry("token_hash = \"x\""), "there is no setting «token_hash»; did you mean «token-hash»?"),
        ("[[prox]]\n".to_owned(), "outside of [[proxy]]: there is no setting «prox»; did you mean «proxy»?"),
        ("[proxy]\nname = \"a\"\n".to_owned(), "each entry begins with a line [[proxy]]"),
        ("[[proxy]]\n".to_owned(), "entry 1: name: it is missing"),
        ("[[proxy]]\nname = \"a b\"\n".to_owned(), "entry 1: name: expected 1 to 64 letters"),
        ("[[proxy]]\nname = \"a\"\n".to_owned(), "entry 1 («a»): token: it is missing"),
        (
            format!("{}[[proxy]]\nname = \"b\"\ntoken = \"secret\"", entry("")),
            "entry 2 («b»): token: the token is too short",
        ),
        (
            "[[proxy]]\nname = \"a\"\ntoken-hash = \"sha256:12\"".to_owned(),
            "token-hash: expected sha256: and 64 digits",
        ),
        (entry("token-hash = \"x\""), "leave one out"),
        (entry("ports = 8080"), "ports: expected a list in brackets"),
        (entry("ports = []"), "ports: the list is empty"),
        (entry("ports = [0]"), "ports: expected FIRST-LAST or one port, from 1 to 65535"),
        (entry("ports = [\"9-8\"]"), "write 8-9"),
        (entry("groups = [\"a/b\"]"), "groups: invalid group name"),
        (entry("streams = 0"), "streams: expected a number from 1 on"),
        (entry("streams = \"many\""), "streams: expected a number from 1 on"),
        (entry("rate = \"fast\""), "rate: invalid rate: expected a number of bytes per second"),
        (entry("expires = \"tomorrow\""), "expires: expected a date, 2027-12-31"),
        (entry("expires = 2027-12-31T18:00:00"), "write 2027-12-31T18:00:00Z"),
        (entry("expires = 18:00:00"), "expires: expected a date, 2027-12-31"),
        (entry("") + &entry(""), "there are two entries with the name «alice»"),
        (
            ["a", "b"].map(|name| format!("[[proxy]]\nname = \"{name}\"\ntoken = \"{token}\"\n")).concat(),
            "«a» and «b» have the same token: make one for each",
        ),
        (format!("[[proxy]]\nname = \"a\"\ntoken = \"{token}\n"), "line 3: "),
        (format!("[[proxy]]\nname = \"a\"\ntoken = {token}\n"), "line 3: "),
    ] {
        let error = ProxyEntries::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
        assert!(!error.contains("secret") && !error.contains(token), "the token is repeated: {error}");
    }
}

#[test]
fn there_are_no_more_entries_than_a_handshake_can_try() {
    let entries = |count: usize| -> String {
        (0..count)
            .map(|n| format!("[[proxy]]\nname = \"p{n}\"\ntoken-hash = \"sha256:{n:064x}\"\n"))
            .collect()
    };
    assert_eq!(ProxyEntries::parse(&entries(MAX_PROXY_ENTRIES)).unwrap().iter().count(), MAX_PROXY_ENTRIES);
    let error = ProxyEntries::parse(&entries(MAX_PROXY_ENTRIES + 1)).unwrap_err();
    assert_eq!(error.to_string(), "there are 1001 entries; the maximum is 1000");
}

#[test]
fn debug_output_contains_no_token() {
    let token = Token::random();
    let text = format!("[[proxy]]\nname = \"alice\"\ntoken = \"{}\"", token.reveal());
    let debug = format!("{:?}", ProxyEntries::parse(&text).unwrap());
    assert!(debug.contains("TokenKey(***)") && !debug.contains(token.reveal()), "{debug}");
}
