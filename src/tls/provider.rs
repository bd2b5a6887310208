//! The cryptography of TLS: cipher suites in the order of this machine's preference.

use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::{
        cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        default_provider,
    },
};

/// Returns the cryptographic provider with the cipher suites of TLS 1.3. The server follows the order of the proxy,
/// which often has the slower processor: AES-128-GCM first where instructions for AES exist, ChaCha20-Poly1305
/// elsewhere.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    if !has_aes_instructions() {
        provider.cipher_suites.rotate_right(1);
    }
    Arc::new(provider)
}

/// Returns whether the processor has instructions for AES.
fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
