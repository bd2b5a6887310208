//! Addresses of users: those of IPv4 as numbers, which take less than half of their text.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    /// An address of IPv4.
    Number(u32),
    /// Another one, and all of them up to version 2 of the format.
    Text(IpAddr),
}

/// Serializes addresses.
pub(super) fn serialize<S: Serializer>(addrs: &[IpAddr], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(addrs.iter().map(|addr| match addr {
        IpAddr::V4(addr) => Written::Number(addr.to_bits()),
        other => Written::Text(*other),
    }))
}

/// Deserializes addresses.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let written: Vec<Written> = Vec::deserialize(deserializer)?;
    Ok(written
        .into_iter()
        .map(|addr| match addr {
            Written::Number(bits) => Ipv4Addr::from_bits(bits).into(),
            Written::Text(addr) => addr,
        })
        .collect())
}
