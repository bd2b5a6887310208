//! HMAC-SHA-256 over length-prefixed parts, and constant-time comparison with it.

use hmac::{Hmac, KeyInit as _, Mac as _, digest::Key};
use sha2::Sha256;

/// The label under which two secrets are compared. No proof of the handshake uses it.
const TOKEN_LABEL: &[u8] = b"underpass v2 token";

/// Returns whether `secret` and `candidate` are equal. Compares their HMACs, so that the time taken does not reveal the
/// content.
pub(super) fn constant_time_eq(secret: &[u8; 32], candidate: &[u8; 32]) -> bool {
    let mac = MacInput::new(secret, TOKEN_LABEL).part(secret).finish();
    MacInput::new(secret, TOKEN_LABEL).part(candidate).verify(&mac)
}

/// An HMAC over a list of length-prefixed parts.
pub(super) struct MacInput(Hmac<Sha256>);

impl MacInput {
    /// Creates an HMAC with `key` whose first part is `label`.
    pub(super) fn new(key: &[u8; 32], label: &[u8]) -> Self {
        // HMAC pads a short key with zeros to the block size of its hash. Padding it here makes the call infallible.
        let mut block = Key::<Hmac<Sha256>>::default();
        block[..key.len()].copy_from_slice(key);
        Self(Hmac::new(&block)).part(label)
    }

    /// Adds one part with its length before it.
    pub(super) fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Returns the HMAC.
    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }

    /// Returns whether the HMAC equals `mac`, in constant time.
    pub(super) fn verify(self, mac: &[u8; 32]) -> bool {
        self.0.verify_slice(mac).is_ok()
    }
}
