//! Selection, limits and replacement of grants.

use super::*;

/// Returns the grants of the entries in `text`, and of `token`.
fn grants(token: Option<&Token>, text: &str) -> Grants {
    Grants::new(token, &ProxyEntries::parse(text).unwrap(), &RateLimitCount::default())
}

fn entry(name: &str, token: &Token, more: &str) -> String {
    format!("[[proxy]]\nname = \"{name}\"\ntoken = \"{}\"\n{more}\n", token.reveal())
}

#[test]
fn a_token_selects_its_entry_in_both_formats() {
    let [root, alice, bob] = [(); 3].map(|()| Token::random());
    let text = entry("alice", &alice, "") + &entry("bob", &bob, "");
    let both = grants(Some(&root), &text);
    assert_eq!(both.keys().len(), 3);
    for (token, name) in [(&root, ""), (&alice, "alice"), (&bob, "bob")] {
        assert_eq!(both.find(&token.key()).unwrap().name(), name);
        assert_eq!(both.find_token(token.reveal().as_bytes()).unwrap().name(), name);
    }
    let unknown = Token::random();
    assert!(both.find(&unknown.key()).is_none() && both.find_token(unknown.reveal().as_bytes()).is_none());
    let only_entries = grants(None, &text);
    assert_eq!(only_entries.keys().len(), 2);
    assert!(only_entries.find(&root.key()).is_none() && only_entries.find_token(b"").is_none());
}

#[test]
fn what_is_in_use_stays_counted_when_other_limits_apply() {
    let alice = Token::random();
    let count = RateLimitCount::default();
    let two = grants(None, &entry("alice", &alice, "streams = 2"));
    let grant = two.find(&alice.key()).unwrap();
    let used = [(); 2].map(|()| grant.admit(Resource::Streams, 0).unwrap());
    let refusal = grant.admit(Resource::Streams, 0).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "«alice» has its maximum of 2 streams (key `streams` of its entry in the file of --tokens)"
    );
    assert!(grant.admit(Resource::Streams, 1).is_ok(), "one is about to be replaced");
    let one = ProxyEntries::parse(&entry("alice", &alice, "streams = 1")).unwrap();
    let (one, changes) = two.replaced_by(&one, &count);
    assert!(changes.added.is_empty() && changes.revoked.is_empty() && changes.changed.len() == 1);
    assert!(Arc::ptr_eq(&one.find(&alice.key()).unwrap(), &grant));
    let [first, second] = used;
    drop(first);
    assert!(grant.admit(Resource::Streams, 0).is_err(), "one is in use");
    drop(second);
    assert!(grant.admit(Resource::Streams, 0).is_ok());
}

#[test]
fn an_entry_with_another_token_is_a_new_one_and_the_old_one_has_ended() {
    let (old, new) = (Token::random(), Token::random());
    let before = grants(None, &entry("alice", &old, ""));
    let grant = before.find(&old.key()).unwrap();
    let entries = ProxyEntries::parse(&entry("alice", &new, "")).unwrap();
    let (after, changes) = before.replaced_by(&entries, &RateLimitCount::default());
    assert_eq!((changes.added.len(), changes.changed.len(), changes.revoked.len()), (1, 0, 1));
    assert!(grant.has_ended() && after.find(&old.key()).is_none());
    assert!(!after.find(&new.key()).unwrap().has_ended());
}

#[test]
fn an_expired_token_ends_once_and_is_valid_again_with_another_date() {
    let alice = Token::random();
    let first = grants(None, &entry("alice", &alice, "expires = 1970-01-02"));
    let (day, grant) = (86_400_000, first.find(&alice.key()).unwrap());
    assert!(first.end_expired(2 * day - 1).is_empty() && grant.check_valid(2 * day - 1).is_ok());
    assert_eq!(first.end_expired(2 * day).len(), 1);
    assert!(first.end_expired(2 * day).is_empty() && grant.has_ended());
    assert!(grant.check_valid(2 * day).unwrap_err().to_string().contains("«alice» has expired"));
    let later = ProxyEntries::parse(&entry("alice", &alice, "expires = 1970-01-03")).unwrap();
    let (later, _) = first.replaced_by(&later, &RateLimitCount::default());
    assert!(!grant.has_ended() && grant.check_valid(2 * day).is_ok());
    assert_eq!(later.end_expired(3 * day).len(), 1);
}

#[test]
fn any_free_port_is_one_of_the_entry_that_the_server_allows() {
    let alice = Token::random();
    let grants = grants(None, &entry("alice", &alice, "ports = [80, \"9000-9002\", 20000]"));
    let allowed = "1024-65535".parse().unwrap();
    let mut ports: Vec<_> = grants.find(&alice.key()).unwrap().candidates(allowed, 1).collect();
    ports.sort_unstable();
    assert_eq!(ports, [9000, 9001, 9002, 20_000]);
    assert_eq!(grants.unlimited().candidates(allowed, 0).count(), 32_768 - 20_000);
}
