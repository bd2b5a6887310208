//! TLS settings of channels: which certificate the server presents, and which ones a proxy accepts.
//!
//! TLS 1.3 only, without early data (0-RTT), which an attacker could replay, and without session resumption: channels
//! live long, and each full handshake verifies the certificate anew.
//!
//! The handshake of the tunnel binds the TLS session into its proofs
//! ([`Transcript::exporter`](crate::wire::handshake::Transcript::exporter)), so that a man in the middle with another
//! certificate is detected whatever certificates the proxy accepts.

mod error;
mod fingerprint;
mod identity;
mod key_verifier;
mod provider;

pub use error::TlsError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError};

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
    version::TLS13,
};
use rustls_platform_verifier::Verifier as SystemVerifier;

use key_verifier::KeyVerifier;
use provider::provider;

/// The application protocol that both sides negotiate (ALPN, RFC 7301), so that a connection that was meant for another
/// service is refused by the TLS handshake. The version of the tunnel's protocol is negotiated by its own handshake.
const ALPN: &[u8] = b"underpass";

/// TLS as the server speaks it on its tunnel port. Clones share one setting, which can be replaced at run time.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// Creates the setting with the certificate and key of the server.
    ///
    /// # Errors
    /// The cryptographic library cannot use the key.
    pub fn new(identity: &Identity) -> Result<Self, Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(server_config(identity)?))))
    }

    /// Creates the setting with a new self-signed certificate, which is not stored.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn self_signed() -> Result<Self, IdentityError> {
        let pem = Identity::generate().map_err(|error| IdentityError::Generate(error.to_string()))?;
        Self::new(&Identity::from_pem(&pem, &pem)?).map_err(IdentityError::Key)
    }

    /// Returns the setting for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Replaces certificate and key for new connections. Those that are open are not affected.
    ///
    /// # Errors
    /// The cryptographic library cannot use the key; nothing has changed then.
    pub fn replace(&self, identity: &Identity) -> Result<(), Error> {
        self.0.store(Arc::new(server_config(identity)?));
        Ok(())
    }
}

/// How a proxy verifies the certificate of its server, before the proofs of the tunnel's handshake, which cover the TLS
/// session, show that the server knows the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerVerification {
    /// Not at all: a man in the middle is detected by the proofs, after he has seen one with which he can test guesses
    /// of the token.
    Token,
    /// By the key: its fingerprint has to be one of these. Several allow for a change of the key.
    Fingerprints(Vec<Fingerprint>),
    /// By the authorities of this text in PEM, and by the host name.
    Authorities(String),
    /// By the authorities that this machine trusts, and by the host name. rustls-platform-verifier asks the keychain of
    /// macOS, which rustls-native-certs does not: certificates that an organisation has added or distrusted count
    /// there, too. Elsewhere it reads the store of the system, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    System,
}

/// TLS as a proxy speaks it to its server.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// The setting for rustls.
    config: Arc<ClientConfig>,
    /// Whether the certificate of the server is verified.
    verifies_certificate: bool,
}

impl ClientTls {
    /// Creates the setting with this verification of the server's certificate.
    ///
    /// # Errors
    /// There is no authority, or a certificate of one cannot be decoded.
    pub fn new(verification: ServerVerification) -> Result<Self, Error> {
        let provider = provider();
        let verifies_certificate = verification != ServerVerification::Token;
        // The name of the server is sent in clear. Only who verifies it needs a server that knows its name.
        let is_named =
            matches!(verification, ServerVerification::Authorities(_) | ServerVerification::System);
        let verifier: Arc<dyn ServerCertVerifier> = match verification {
            ServerVerification::Token => Arc::new(KeyVerifier::new(vec![], &provider)),
            ServerVerification::Fingerprints(expected) => Arc::new(KeyVerifier::new(expected, &provider)),
            ServerVerification::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(
                        certificate.map_err(|error| Error::General(format!("it is not PEM: {error}")))?,
                    )?;
                }
                if roots.is_empty() {
                    let expected =
                        "it contains no certificate: expected PEM, with -----BEGIN CERTIFICATE-----";
                    return Err(Error::General(expected.to_owned()));
                }
                WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?
            }
            ServerVerification::System => Arc::new(SystemVerifier::new(provider.clone())?),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        config.enable_sni = is_named;
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), verifies_certificate })
    }

    /// Creates the setting without verification of the server's certificate: [`ServerVerification::Token`].
    ///
    /// # Errors
    /// The cryptographic library supports no cipher suite of TLS 1.3.
    pub fn accepting_any_certificate() -> Result<Self, Error> {
        Self::new(ServerVerification::Token)
    }

    /// Returns the setting for a new connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Returns whether the certificate of the server is verified, before the server gets anything.
    pub fn verifies_certificate(&self) -> bool {
        self.verifies_certificate
    }

    /// Returns the name that the certificate of `server`, `HOST:PORT`, has to be for.
    ///
    /// # Errors
    /// `HOST` is neither a host name nor an address.
    pub fn server_name(server: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
    }
}

/// Returns the server's setting with this certificate and key.
fn server_config(identity: &Identity) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    // A peer that offers no protocol is admitted: text proxies come by any TLS client.
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
pub(crate) mod tests;
