//! The identity of a server: its certificate chain and its private key.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    client::danger::ServerCertVerifier as _,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{Error as PemError, PemObject as _},
    },
    sign::CertifiedKey,
};
use rustls_platform_verifier::Verifier as SystemVerifier;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
    time::ASN1Time,
};

use super::{fingerprint::Fingerprint, provider::provider};

/// The name in a self-signed certificate. The server does not know by which address proxies reach it, and each
/// client can read the certificate: the name of the machine does not belong there.
const SELF_SIGNED_NAME: &str = "underpass";

/// The certificate chain of a server, its own certificate first, with the private key.
#[derive(Debug)]
pub struct Identity {
    /// The certificates.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate. Its `Debug` shows no secret.
    pub(super) key: PrivateKeyDer<'static>,
    /// The fingerprint of that key.
    fingerprint: Fingerprint,
    /// When the first certificate begins to be valid.
    not_before: ASN1Time,
    /// When the first certificate expires.
    not_after: ASN1Time,
    /// The host names and addresses that the first certificate is for.
    names: Vec<String>,
}

/// Why a certificate chain and a key are no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The server could not make one, for the reason in the text.
    #[error("cannot make a certificate: {0}")]
    Generate(String),
    /// There is no certificate in the text.
    #[error("it contains no certificate: expected PEM, with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// There is no private key in the text.
    #[error("it contains no private key: expected PEM, with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// The key needs a passphrase, which cannot be typed at a restart.
    #[error("the private key is encrypted: write it without a passphrase (openssl pkey -in KEY -out NEWKEY)")]
    EncryptedKey,
    /// A part of the text is not PEM.
    #[error("it is not PEM: {0}")]
    Pem(PemError),
    /// The first certificate cannot be decoded.
    #[error("the first certificate is malformed: {0}")]
    Malformed(String),
    /// The key is that of another certificate.
    #[error("the private key does not belong to the first certificate")]
    KeyMismatch,
    /// The key cannot be used.
    #[error("the private key cannot be used: {0}")]
    Key(rustls::Error),
}

impl IdentityError {
    /// Returns whether the text with the key is wrong, and not the one with the certificates.
    pub fn concerns_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::EncryptedKey | Self::KeyMismatch | Self::Key(_))
    }
}

impl Identity {
    /// Generates a key (ECDSA P-256, which all TLS clients support) and a self-signed certificate for it. Returns both
    /// as PEM, in one text, so that no file system can mix those of two servers.
    ///
    /// It is valid at any time, so that a wrong clock does no harm: who trusts it has pinned the key.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub fn generate() -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::new([SELF_SIGNED_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, SELF_SIGNED_NAME);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(1970, 1, 1);
        // "No well-defined expiration date" (RFC 5280, section 4.1.2.5) but for the time of day.
        params.not_after = date_time_ymd(9999, 12, 31);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
    }

    /// Reads a chain and a key from PEM. Both may be the same text, and other sections are skipped.
    ///
    /// # Errors
    /// [`IdentityError`]; none of them contains a part of the key.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, IdentityError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(IdentityError::Pem)?;
        if key.contains("ENCRYPTED") && key.contains("PRIVATE KEY") {
            return Err(IdentityError::EncryptedKey);
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| match error {
            PemError::NoItemsFound => IdentityError::NoKey,
            error => IdentityError::Pem(error),
        })?;
        let own = chain.first().ok_or(IdentityError::NoCertificate)?;
        let malformed = |error: &dyn ToString| IdentityError::Malformed(error.to_string());
        let (_, parsed) = X509Certificate::from_der(own).map_err(|error| malformed(&error))?;
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before, validity.not_after);
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(name).collect());
        let fingerprint = Fingerprint::of(own).map_err(|error| malformed(&error))?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch,
            error => IdentityError::Key(error),
        })?;
        let names = names.unwrap_or_default();
        Ok(Self { chain, key, fingerprint, not_before, not_after, names })
    }

    /// Returns whether the authorities that this machine trusts have issued the certificate for `name`. Proxies on
    /// other machines probably trust them, too.
    pub fn is_trusted_by_system(&self, name: &str) -> bool {
        let (Ok(name), Ok(verifier)) = (ServerName::try_from(name), SystemVerifier::new(provider())) else {
            return false;
        };
        verifier.verify_server_cert(&self.chain[0], &self.chain[1..], &name, &[], UnixTime::now()).is_ok()
    }

    /// Returns the fingerprint of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the host names and addresses that the certificate is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns why proxies that verify the certificate do not accept it at this time of this machine's clock, or will
    /// not in a week; `None` if nothing is wrong with it.
    pub fn validity_problem(&self) -> Option<String> {
        let (now, week) = (ASN1Time::now(), 7 * 24 * 60 * 60);
        let soon = now.timestamp().saturating_add(week);
        if now < self.not_before {
            Some(format!("is not valid before {}; the clock of this machine says {now}", self.not_before))
        } else if now > self.not_after {
            Some(format!("expired on {}; the clock of this machine says {now}", self.not_after))
        } else {
            (self.not_after.timestamp() < soon).then(|| format!("expires on {}", self.not_after))
        }
    }
}

/// Returns the text of a host name or an address in a certificate; `None` for any other kind of name.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
