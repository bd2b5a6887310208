//! The HMAC proofs of the handshake, as pure functions.
//!
//! ```text
//! key          = SHA-256(token)                                              for a new link
//!              = HMAC-SHA-256(SHA-256(token), parts(link label, secret))     for a link that is joined or resumed
//! client proof = HMAC-SHA-256(key, parts(client label, exporter, HELLO body, challenge))
//! server proof = HMAC-SHA-256(key, parts(server label, exporter, HELLO body, challenge, client proof,
//!                                        WELCOME body without its mac))
//! ```
//!
//! `parts` prefixes each part with its length in 8 bytes, big-endian, so that no two lists of parts give the same
//! bytes. The labels carry the protocol version, so that a proof of one version never verifies in another.

use std::fmt;

use bytes::BytesMut;

use super::{mac::MacInput, token::Token, token_key::TokenKey};
use crate::wire::{
    Hello, Welcome,
    binary::{hello_body, welcome_body_without_mac},
};

// Each use of the key has its own label (domain separation), so that no proof can pass for another.
/// Label of the key of a link that is joined or resumed.
const LINK_LABEL: &[u8] = b"underpass v2 link";
/// Label of the proxy's proof.
const CLIENT_LABEL: &[u8] = b"underpass v2 client";
/// Label of the server's proof.
const SERVER_LABEL: &[u8] = b"underpass v2 server";

/// The part of a handshake that both sides know when they compute the proofs.
#[derive(Clone, Copy)]
pub struct Transcript<'a> {
    /// The proxy's HELLO.
    pub hello: &'a Hello,
    /// The nonce of the server's CHALLENGE.
    pub challenge: &'a [u8; 32],
    /// The resume secret of the link that the HELLO names; `None` for a new link.
    pub secret: Option<&'a [u8; 32]>,
    /// The exporter value (RFC 5705) of the TLS session that carries the handshake; empty without TLS. A man in the
    /// middle has two TLS sessions with two values, so that the proofs do not verify.
    pub exporter: &'a [u8],
}

impl fmt::Debug for Transcript<'_> {
    /// Omits the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").field("hello", self.hello).finish_non_exhaustive()
    }
}

/// Computes the proxy's proof, an HMAC, that it knows the token, and the link's resume secret if its HELLO names a
/// link.
pub fn client_proof(token: &Token, transcript: &Transcript<'_>) -> [u8; 32] {
    client_input(&token.key(), transcript).finish()
}

/// Returns the key whose [`client_proof`] equals `mac`. Computes and compares the proofs of all keys, each in constant
/// time, so that the duration tells nothing about `mac` or the keys.
pub fn verify_client<'a>(
    keys: &'a [TokenKey],
    transcript: &Transcript<'_>,
    mac: &[u8; 32],
) -> Option<&'a TokenKey> {
    keys.iter()
        .fold(None, |found, key| if client_input(key, transcript).verify(mac) { Some(key) } else { found })
}

/// Computes the server's proof, an HMAC, that it knows the token. It covers every field of `welcome` except `mac`.
pub fn server_proof(
    key: &TokenKey,
    transcript: &Transcript<'_>,
    client_mac: &[u8; 32],
    welcome: &Welcome,
) -> [u8; 32] {
    server_input(key, transcript, client_mac, welcome).finish()
}

/// Returns whether `welcome.mac` equals the [`server_proof`]. Compares in constant time.
pub fn verify_server(
    token: &Token,
    transcript: &Transcript<'_>,
    client_mac: &[u8; 32],
    welcome: &Welcome,
) -> bool {
    server_input(&token.key(), transcript, client_mac, welcome).verify(&welcome.mac)
}

/// Returns the HMAC input of the proxy's proof.
fn client_input(key: &TokenKey, transcript: &Transcript<'_>) -> MacInput {
    keyed_input(key, transcript, CLIENT_LABEL)
}

/// Returns the HMAC input of the server's proof.
fn server_input(
    key: &TokenKey,
    transcript: &Transcript<'_>,
    client_mac: &[u8; 32],
    welcome: &Welcome,
) -> MacInput {
    let mut body = BytesMut::new();
    welcome_body_without_mac(welcome, &mut body);
    keyed_input(key, transcript, SERVER_LABEL).part(client_mac).part(&body)
}

/// Returns the HMAC input that both proofs begin with, keyed by the token and, if the HELLO names a link, by its
/// resume secret.
fn keyed_input(token_key: &TokenKey, transcript: &Transcript<'_>, label: &[u8]) -> MacInput {
    let mut key = *token_key.bytes();
    if let Some(secret) = transcript.secret {
        key = MacInput::new(&key, LINK_LABEL).part(secret).finish();
    }
    let mut body = BytesMut::new();
    hello_body(transcript.hello, &mut body);
    MacInput::new(&key, label).part(transcript.exporter).part(&body).part(transcript.challenge)
}
