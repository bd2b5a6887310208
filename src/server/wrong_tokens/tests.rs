//! Delay, block and release of addresses, with injected times.

use super::*;

fn address(text: &str) -> AddressBlock {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

#[test]
fn wrong_tokens_are_delayed_more_and_more_and_then_block_the_address_for_a_while() {
    let (tokens, now) = (WrongTokens::default(), Instant::now());
    let attacker = address("192.0.2.1");
    let delays: Vec<u64> = (1..MAX_WRONG_TOKENS)
        .map(|_| {
            let penalty = tokens.record(attacker, now);
            assert!(!penalty.is_newly_blocked && tokens.blocked_for(attacker, now).is_none());
            penalty.delay.as_millis() as u64
        })
        .collect();
    assert_eq!(delays, [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000]);
    assert!(tokens.record(attacker, now).is_newly_blocked);
    assert_eq!(tokens.blocked_for(attacker, now), Some(BLOCK_TIME));
    assert_eq!(tokens.blocked_for(address("192.0.2.2"), now), None, "another address");
    assert!(!tokens.record(attacker, now).is_newly_blocked, "one event for one block");
    let second = Duration::from_secs(1);
    assert_eq!(tokens.blocked_for(attacker, now + BLOCK_TIME - second), Some(second));
    let later = now + BLOCK_TIME;
    assert_eq!(tokens.blocked_for(attacker, later), None);
    assert_eq!(
        tokens.record(attacker, later).delay,
        Duration::ZERO,
        "the block is over, and counting begins again"
    );
}

#[test]
fn an_unblocked_address_may_try_again() {
    let (tokens, now) = (WrongTokens::default(), Instant::now());
    let block = address("2001:db8::1");
    (0..MAX_WRONG_TOKENS).for_each(|_| _ = tokens.record(block, now));
    // The whole /64 is one address.
    assert!(tokens.blocked_for(address("2001:db8::2"), now).is_some());
    assert!(tokens.unblock(address("2001:db8::3")) && !tokens.unblock(block));
    assert_eq!(tokens.blocked_for(block, now), None);
    assert_eq!(tokens.record(block, now).delay, Duration::ZERO);
    (0..MAX_WRONG_TOKENS).for_each(|_| _ = tokens.record(block, now));
    tokens.forget_all();
    assert_eq!(tokens.blocked_for(block, now), None);
}

#[test]
fn an_attacker_behind_the_nat_of_a_proxy_does_not_block_it() {
    let (tokens, now) = (Arc::<WrongTokens>::default(), Instant::now());
    let nat = address("198.51.100.7");
    let connected = tokens.proxy_connected(nat, now);
    let attack = |now| {
        let mut last = tokens.record(nat, now);
        (1..3 * MAX_WRONG_TOKENS).for_each(|_| last = tokens.record(nat, now));
        (last.delay, tokens.blocked_for(nat, now).is_some())
    };
    assert_eq!(attack(now), (MAX_DELAY, false), "delayed only");
    drop(connected);
    let now = Instant::now();
    tokens.forget_all();
    assert_eq!(attack(now), (MAX_DELAY, false), "the proxy may be restarting");
    tokens.forget_all();
    assert_eq!(attack(now + KNOWN_TIME), (MAX_DELAY, true), "it has not come back");
}

#[test]
fn the_table_is_bounded_and_keeps_those_that_try_most() {
    let (tokens, now) = (Arc::<WrongTokens>::default(), Instant::now());
    let attacker = address("192.0.2.1");
    (0..MAX_WRONG_TOKENS).for_each(|_| _ = tokens.record(attacker, now));
    for n in 0..2 * MAX_ADDRESSES as u32 {
        tokens.record(
            AddressBlock::from(std::net::IpAddr::from(n.to_be_bytes())),
            now + Duration::from_millis(n.into()),
        );
    }
    assert!(tokens.blocked_for(attacker, now).is_some(), "displaced by addresses with one wrong token each");
    assert_eq!(tokens.addresses.lock().failed.len(), MAX_ADDRESSES);
    let connected: Vec<_> = (0..MAX_ADDRESSES as u32 + 10)
        .map(|n| tokens.proxy_connected(AddressBlock::from(std::net::IpAddr::from(n.to_be_bytes())), now))
        .collect();
    assert_eq!(tokens.addresses.lock().known.len(), MAX_ADDRESSES);
    drop(connected);
    tokens.remove_old(Instant::now() + KNOWN_TIME);
    let addresses = tokens.addresses.lock();
    assert!(addresses.failed.is_empty() && addresses.known.is_empty());
}
