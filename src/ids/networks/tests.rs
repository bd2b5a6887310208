//! Unit tests of networks: notation, IPv4-mapped addresses, precedence.

use proptest::prelude::*;

use super::*;

fn network(text: &str) -> Network {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn rules(text: &str) -> UserNetworks {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_network_is_written_with_its_prefix_and_an_address_without() {
    for (text, printed) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
    ] {
        assert_eq!(network(text).to_string(), printed);
    }
    for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "host", "10.0.0.0/8 "] {
        assert_eq!(text.parse::<Network>(), Err(NetworkError::Invalid), "{text:?}");
    }
    for (text, meant) in [("10.1.2.3/8", "10.0.0.0/8"), ("::ffff:10.1.2.3/104", "10.0.0.0/8")] {
        let error = text.parse::<Network>().unwrap_err();
        assert_eq!(error, NetworkError::HostBits(network(meant)));
        assert!(error.to_string().ends_with("the network is 10.0.0.0/8"), "{error}");
    }
}

#[test]
fn a_mapped_address_is_its_ipv4_address() {
    let rules = rules("deny=10.0.0.0/8");
    for denied in ["10.1.2.3", "::ffff:10.1.2.3"] {
        assert!(rules.check(addr(denied)).is_err(), "{denied}");
    }
    assert_eq!(rules.check(addr("::a01:203")), Ok(()), "an IPv4-compatible address is another one");
    let all = |text: &str| network(text);
    assert!(!all("::/0").contains(addr("192.0.2.7")), "each family has its own networks");
    assert!(!all("::/0").contains(addr("::ffff:192.0.2.7")));
}

#[test]
fn a_denied_network_wins_over_an_allowed_one() {
    let rules = rules("allow=10.0.0.0/8 allow=2001:db8::/32 deny=10.1.0.0/16 allow=10.1.2.3");
    for admitted in ["10.0.0.1", "10.255.0.1", "2001:db8:1::1"] {
        assert_eq!(rules.check(addr(admitted)), Ok(()), "{admitted}");
    }
    for denied in ["10.1.0.1", "10.1.2.3"] {
        let denied = addr(denied);
        assert_eq!(rules.check(denied), Err(NetworkRefusal::Denied(denied, network("10.1.0.0/16"))));
    }
    for other in ["192.0.2.7", "2001:db9::1"] {
        let other = addr(other);
        assert_eq!(rules.check(other), Err(NetworkRefusal::NotAllowed(other)));
    }
    let only_denied = UserNetworks::new(&[], &[network("192.0.2.0/24")]).unwrap();
    assert_eq!(only_denied.check(addr("10.0.0.1")), Ok(()));
    assert_eq!(UserNetworks::default().check(addr("10.0.0.1")), Ok(()));
}

#[test]
fn a_list_is_bounded_and_each_word_is_checked() {
    let many = |count: u32| {
        let words = (0..count).map(|n| format!("deny={} ", std::net::Ipv4Addr::from_bits(2 * n)));
        words.collect::<String>().parse::<UserNetworks>()
    };
    assert!(many(1000).is_ok());
    assert_eq!(many(1001), Err(NetworkError::TooMany));
    for text in ["10.0.0.0/8", "permit=10.0.0.0/8", "allow=", "allow", "allow=10.0.0.0/8,deny=::/0"] {
        assert_eq!(text.parse::<UserNetworks>(), Err(NetworkError::Invalid), "{text}");
    }
    assert_eq!(rules("").to_string(), "");
    assert!(rules(" \n").is_empty());
}

fn any_network() -> impl Strategy<Value = Network> {
    // Few bits, so that networks contain each other and the addresses.
    let ipv4 = (0_u32..16, 28_u8..=32).prop_map(|(bits, len)| (IpAddr::from(bits.to_be_bytes()), len));
    let ipv6 = (0_u128..16, 124_u8..=128).prop_map(|(bits, len)| (IpAddr::from(bits.to_be_bytes()), len));
    let network = |(addr, len)| Network(IpNet::new(addr, len).unwrap().trunc());
    prop_oneof![ipv4.prop_map(network), ipv6.prop_map(network)]
}

proptest! {
    /// The sets are searched as if each network were compared, and survive their notation.
    #[test]
    fn a_list_decides_as_its_networks_do(
        allow in proptest::collection::vec(any_network(), 0..6),
        deny in proptest::collection::vec(any_network(), 0..6),
    ) {
        let rules = UserNetworks::new(&allow, &deny).unwrap();
        prop_assert_eq!(&rules.to_string().parse::<UserNetworks>().unwrap(), &rules);
        let addresses = (0_u8..16).flat_map(|last| {
            [IpAddr::from([0, 0, 0, last]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(last)])]
        });
        for addr in addresses {
            let is_in = |networks: &[Network]| networks.iter().any(|network| network.contains(addr));
            let is_admitted = !is_in(&deny) && (allow.is_empty() || is_in(&allow));
            prop_assert_eq!(rules.check(addr).is_ok(), is_admitted, "{} {}", addr, rules);
        }
    }
}
