//! Why TLS failed, in words that say what to do.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, pki_types::UnixTime};
use x509_parser::time::ASN1Time;

use super::key_verifier::FingerprintMismatch;

/// How many names of a certificate are shown.
const MAX_NAMES: usize = 5;
/// The longest host name of DNS in characters (RFC 1035).
const MAX_NAME_CHARS: usize = 253;

/// An error of TLS on a channel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct TlsError(#[from] Error);

impl TlsError {
    /// Returns whether this side does not accept the certificate of the other one.
    pub fn concerns_certificate(&self) -> bool {
        matches!(self.0, Error::InvalidCertificate(_))
    }

    /// Returns whether only an operator can remove the reason: another key, another issuer, another name. What the
    /// clock may cure is not: a machine without a battery starts in 1970, and learns the time later.
    pub fn is_permanent(&self) -> bool {
        let is_about_time = |error: &CertificateError| {
            matches!(
                error,
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
            )
        };
        matches!(&self.0, Error::InvalidCertificate(error) if !is_about_time(error))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::InvalidCertificate(error) => describe_certificate(error, f),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => f.write_str(
                "the peer does not speak TLS: this is not the tunnel port of a server, or the server was started with \
                 --plain, which both sides need or neither",
            ),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                f.write_str("the peer does not speak TLS 1.3: it is another program")
            }
            Error::AlertReceived(
                AlertDescription::CertificateUnknown | AlertDescription::UnknownCA | AlertDescription::DecryptError,
            ) => f.write_str("the peer does not trust the certificate: it verifies another issuer or fingerprint"),
            Error::AlertReceived(AlertDescription::BadCertificate) => {
                f.write_str("the peer does not accept the certificate: it is for another name")
            }
            Error::AlertReceived(AlertDescription::CertificateExpired) => f.write_str(
                "the peer does not accept the certificate: by its clock it has expired, or is not valid yet",
            ),
            Error::NoApplicationProtocol => f.write_str(
                "the client asked for another protocol (ALPN), as a browser does: this is the tunnel port, and users \
                 connect to the public ports",
            ),
            error => write!(f, "{error}"),
        }
    }
}

/// Writes what is wrong with the certificate of the server.
fn describe_certificate(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        CertificateError::Other(error) => match error.0.downcast_ref::<FingerprintMismatch>() {
            Some(mismatch) => write!(f, "{mismatch}"),
            None => write!(f, "the server's certificate was not accepted: {error}"),
        },
        CertificateError::ExpiredContext { time, not_after } => write!(
            f,
            "the server's certificate expired on {}, and the clock of this machine says {}: renew the certificate, or set \
             the clock",
            date(not_after),
            date(time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => write!(
            f,
            "the server's certificate is not valid before {}, and the clock of this machine says {}: set the clock",
            date(not_before),
            date(time)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => write!(
            f,
            "the server's certificate is for {}, and not for {}: write a name of the certificate in --server, or give \
             --fingerprint instead of --verify and --ca",
            bare_names(presented),
            expected.to_str()
        ),
        CertificateError::UnknownIssuer => f.write_str(
            "the server's certificate was not issued by an authority that this proxy trusts: give the authority's \
             certificate with --ca, or pin the server's with --fingerprint",
        ),
        CertificateError::BadSignature => f.write_str(
            "a signature of the server is wrong: it does not have the key of its certificate, or an authority has another \
             key than the one of its name that this proxy trusts",
        ),
        error => write!(f, "the server's certificate is invalid: {error}"),
    }
}

/// Returns the names in a certificate, without what rustls writes around them: `DnsName("tunnel.test")`. The server is
/// not authenticated: nothing that it writes reaches a terminal unless it can be part of a name, and only a few names
/// do.
fn bare_names(presented: &[String]) -> String {
    let bare = |name: &String| -> String {
        let name = name.split_once('(').map_or(&**name, |(_, name)| name.trim_end_matches(')'));
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-._*:".contains(*c);
        name.chars().filter(is_plain).take(MAX_NAME_CHARS).collect()
    };
    let names: Vec<_> = presented.iter().take(MAX_NAMES).map(bare).collect();
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}

/// Returns a time as text.
fn date(time: &UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    time.map_or_else(|| "a time that is no date".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
