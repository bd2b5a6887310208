//! TLS settings of channels: which certificate the server presents, and which ones a proxy accepts.
//!
//! TLS 1.3 only, without early data (0-RTT), which an attacker could replay, and without session resumption: channels live
//! long, a full handshake takes a third of a millisecond of both sides together, and each one verifies the certificate anew.
//!
//! The handshake of the tunnel binds the TLS session into its proofs
//! ([`Transcript::exporter`](crate::wire::handshake::Transcript::exporter)), so that a man in the middle with another
//! certificate is detected whatever certificates the proxy accepts.

mod accept_any;
mod provider;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::TLS13,
};

use accept_any::AcceptAnyCertificate;
use provider::provider;

/// The application protocol that both sides negotiate (ALPN, RFC 7301), so that a connection that was meant for another
/// service is refused by the TLS handshake. The version of the tunnel's protocol is negotiated by its own handshake.
const ALPN: &[u8] = b"underpass";

/// The name for which [`ServerTls::self_signed`] makes its certificate.
const SELF_SIGNED_NAME: &str = "underpass";

/// TLS as the server speaks it on its tunnel port. Clones share one setting, which can be replaced at run time.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// Creates the setting with a certificate chain, the server's own first, and its private key.
    ///
    /// # Errors
    /// The key does not belong to the certificate, or is of an unsupported kind.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(server_config(chain, key)?))))
    }

    /// Creates the setting with a new self-signed certificate, which is not stored.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn self_signed() -> Result<Self, rcgen::Error> {
        let (chain, key) = self_signed_certificate()?;
        Self::new(chain, key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)
    }

    /// Returns the setting for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Replaces certificate and key for new connections. Those that are open are not affected.
    ///
    /// # Errors
    /// The key does not belong to the certificate, or is of an unsupported kind; nothing has changed then.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(server_config(chain, key)?));
        Ok(())
    }
}

/// TLS as a proxy speaks it to its server.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Creates the setting without verification of the server's certificate. A man in the middle is detected only by the
    /// proofs of the tunnel's handshake, which cover the TLS session.
    ///
    /// # Errors
    /// The cryptographic library supports no cipher suite of TLS 1.3.
    pub fn accepting_any_certificate() -> Result<Self, rustls::Error> {
        let provider = provider();
        let verifier = AcceptAnyCertificate::new(&provider);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Returns the setting for a new connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }

    /// Returns the name that the certificate of `server`, `HOST:PORT`, has to be for.
    ///
    /// # Errors
    /// `HOST` is neither a host name nor an address.
    pub fn server_name(server: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
    }
}

/// Returns the server's setting with this certificate chain and key.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // A peer that offers no protocol is admitted: text proxies come by any TLS client.
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Returns a new self-signed certificate and its private key.
fn self_signed_certificate() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
    let made = rcgen::generate_simple_self_signed([SELF_SIGNED_NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Ok((vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests;
