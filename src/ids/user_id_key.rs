//! The key from which the ids of users are derived.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use hmac::{Hmac, KeyInit as _, Mac as _, digest::Key};
use sha2::Sha256;

use super::{IdError, UserChannelId, decode_hex, encode_hex};

#[cfg(test)]
mod tests;

/// Length of the key in bytes: that of the hash.
const KEY_BYTES: usize = 32;

/// A secret from which the id of a user is derived, so that one client address on one public port has the same id after
/// hours, and after a restart of a server that keeps its key. Without a secret, an id in a log or on a screenshot would
/// tell the address: there are only 2^32 of IPv4 to try. `Debug` does not print it.
#[derive(Clone)]
pub struct UserIdKey([u8; KEY_BYTES]);

impl UserIdKey {
    /// Returns the key with these bytes, which must be random.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the id that a client address has on a public port: the first 24 bits of an HMAC-SHA-256 over both and
    /// over
    /// `attempt`, the number of ids that were tried before and that other users have. Of 5,000 users, about one has to
    /// try twice.
    pub fn derive(&self, port: u16, addr: IpAddr, attempt: u32) -> UserChannelId {
        let mut block = Key::<Hmac<Sha256>>::default();
        block[..KEY_BYTES].copy_from_slice(&self.0);
        let mut mac: Hmac<Sha256> = Hmac::new(&block);
        let addr = match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        mac.update(&port.to_be_bytes());
        mac.update(&Ipv6Addr::octets(&addr));
        mac.update(&attempt.to_be_bytes());
        let digest: [u8; KEY_BYTES] = mac.finalize().into_bytes().into();
        UserChannelId::new(u32::from_be_bytes([0, digest[0], digest[1], digest[2]]))
    }

    /// Returns the key as 64 hexadecimal digits, for the file that keeps it.
    pub fn reveal(&self) -> String {
        encode_hex(&self.0)
    }
}

impl FromStr for UserIdKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode_hex(text).map(Self).ok_or(IdError::UserIdKey)
    }
}

impl fmt::Debug for UserIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserIdKey(***)")
    }
}
