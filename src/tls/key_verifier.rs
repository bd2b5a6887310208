//! Verification of a server by its key alone.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::fingerprint::Fingerprint;

/// Accepts a server that has the private key of its certificate, if that key is one of the expected ones. Names,
/// validity and issuer of the certificate are not looked at: they say who has the key, which is known, and a wrong
/// clock does no harm.
#[derive(Debug)]
pub(super) struct KeyVerifier {
    /// The fingerprints of the accepted keys; empty for any key.
    expected: Vec<Fingerprint>,
    /// How the server may sign the handshake.
    algorithms: WebPkiSupportedAlgorithms,
}

/// The server has another key than expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's certificate has the fingerprint {actual}, and not {} (--fingerprint): if the server has a new key, copy \
     the new fingerprint from its screen (key a) or its log; if not, somebody intercepts the connection",
    expected.iter().map(Fingerprint::to_string).collect::<Vec<_>>().join(" or ")
)]
pub(super) struct FingerprintMismatch {
    /// The fingerprints of the accepted keys.
    expected: Vec<Fingerprint>,
    /// The fingerprint of the server's key.
    actual: Fingerprint,
}

impl KeyVerifier {
    /// Creates a verifier that accepts the keys with these fingerprints, or any key if there are none.
    pub(super) fn new(expected: Vec<Fingerprint>, provider: &CryptoProvider) -> Self {
        Self { expected, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.expected.is_empty() {
            let actual = Fingerprint::of(end_entity)?;
            if !self.expected.contains(&actual) {
                let mismatch = FingerprintMismatch { expected: self.expected.clone(), actual };
                return Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
