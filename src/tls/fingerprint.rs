//! The fingerprint of a server: the hash of its public key.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_URL_SAFE_NO_PAD,
};
use rustls::{pki_types::CertificateDer, server::ParsedCertificate};
use sha2::{Digest as _, Sha256};

/// How the text of a fingerprint begins.
const PREFIX: &str = "sha256:";

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 5280, section 4.1) in DER: that of `curl --pinnedpubkey`,
/// of HPKP and of DANE (`3 1 1`). It covers the key alone, so that a certificate may be renewed without a change for
/// those who pinned it.
///
/// The text is `sha256:` with 43 characters of base64url, which need no quotes in a shell and in a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected sha256: and 43 characters, as the server shows it beside its token; or the SHA-256 of the public key in 64 \
     hexadecimal digits"
)]
pub struct FingerprintError;

impl Fingerprint {
    /// Returns the fingerprint of a certificate's key.
    ///
    /// # Errors
    /// The bytes are no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Self(Sha256::digest(&key).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Parses what [`Display`](fmt::Display) writes, the form of curl (`sha256//` and base64), and hexadecimal digits
    /// with or without colons, as openssl prints them.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.trim();
        let body = match text.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &text[PREFIX.len()..],
            _ => text.strip_prefix("sha256//").unwrap_or(text),
        };
        let bytes = decode_hex(body).or_else(|| {
            let url_safe = body.replace('+', "-").replace('/', "_");
            let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            GeneralPurpose::new(&alphabet::URL_SAFE, config).decode(url_safe).ok()
        });
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(FingerprintError)
    }
}

/// Decodes 64 hexadecimal digits with or without colons between them; `None` for any other text.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;
