//! The proofs themselves, pure functions.
//!
//! ```text
//! key          = SHA-256(token)                                              of a new link
//!              = HMAC-SHA-256(SHA-256(token), parts(link label, secret))     of one that is joined or resumed
//! client proof = HMAC-SHA-256(key, parts(client label, exporter, HELLO body, challenge))
//! server proof = HMAC-SHA-256(key, parts(server label, exporter, HELLO body, challenge, client proof,
//!                                        WELCOME body without its mac))
//! ```
//!
//! `parts` writes the length of each part in 8 bytes, big-endian, before it: no two lists of parts give the same bytes.

use std::fmt;

use bytes::BytesMut;
use hmac::{Hmac, KeyInit as _, Mac as _, digest::Key};
use sha2::Sha256;

use super::Token;
use crate::wire::{
    Hello, Welcome,
    binary::{hello_body, welcome_body_without_mac},
};

// Each use of the key has its own label, so that no proof can pass for another.
const LINK: &[u8] = b"underpass v1 link";
const CLIENT: &[u8] = b"underpass v1 client";
const SERVER: &[u8] = b"underpass v1 server";
const TOKEN: &[u8] = b"underpass v1 token";

/// What both sides have seen of a handshake when the proofs are made.
#[derive(Clone, Copy)]
pub struct Transcript<'a> {
    /// The proxy's HELLO.
    pub hello: &'a Hello,
    /// The nonce of the server's CHALLENGE.
    pub challenge: &'a [u8; 32],
    /// The resume secret of the link that the HELLO names; `None` for a new link.
    pub secret: Option<&'a [u8; 32]>,
    /// The exporter value (RFC 5705) of the TLS session that carries the handshake, which nobody in the middle shares
    /// with both sides; empty without TLS.
    pub exporter: &'a [u8],
}

impl fmt::Debug for Transcript<'_> {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").field("hello", self.hello).finish_non_exhaustive()
    }
}

/// The proxy's proof that it holds the token, and the link's secret if it names a link.
pub fn client_proof(token: &Token, transcript: &Transcript<'_>) -> [u8; 32] {
    client(token, transcript).finish()
}

/// Whether `mac` is the [`client_proof`]; takes the same time whatever is wrong with it.
pub fn verify_client(token: &Token, transcript: &Transcript<'_>, mac: &[u8; 32]) -> bool {
    client(token, transcript).verify(mac)
}

/// The server's proof that it holds the token too. It covers every field of `welcome` but its mac.
pub fn server_proof(
    token: &Token,
    transcript: &Transcript<'_>,
    client_mac: &[u8; 32],
    welcome: &Welcome,
) -> [u8; 32] {
    server(token, transcript, client_mac, welcome).finish()
}

/// Whether `welcome.mac` is the [`server_proof`]; takes the same time whatever is wrong with it.
pub fn verify_server(
    token: &Token,
    transcript: &Transcript<'_>,
    client_mac: &[u8; 32],
    welcome: &Welcome,
) -> bool {
    server(token, transcript, client_mac, welcome).verify(&welcome.mac)
}

/// Compares two secrets by their macs, so that neither length nor content shows in the time it takes.
pub(super) fn same(key: &[u8; 32], secret: &[u8], candidate: &[u8]) -> bool {
    let mac = Parts::new(key, TOKEN).part(secret).finish();
    Parts::new(key, TOKEN).part(candidate).verify(&mac)
}

fn client(token: &Token, transcript: &Transcript<'_>) -> Parts {
    start(token, transcript, CLIENT)
}

fn server(token: &Token, transcript: &Transcript<'_>, client_mac: &[u8; 32], welcome: &Welcome) -> Parts {
    let mut body = BytesMut::new();
    welcome_body_without_mac(welcome, &mut body);
    start(token, transcript, SERVER).part(client_mac).part(&body)
}

fn start(token: &Token, transcript: &Transcript<'_>, label: &[u8]) -> Parts {
    let mut key = token.key();
    if let Some(secret) = transcript.secret {
        key = Parts::new(&key, LINK).part(secret).finish();
    }
    let mut body = BytesMut::new();
    hello_body(transcript.hello, &mut body);
    Parts::new(&key, label).part(transcript.exporter).part(&body).part(transcript.challenge)
}

struct Parts(Hmac<Sha256>);

impl Parts {
    fn new(key: &[u8; 32], label: &[u8]) -> Self {
        // HMAC fills a short key up with zeros to its hash's block; done here, it cannot fail.
        let mut block = Key::<Hmac<Sha256>>::default();
        block[..key.len()].copy_from_slice(key);
        Self(Hmac::new(&block)).part(label)
    }

    fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }

    fn verify(self, mac: &[u8; 32]) -> bool {
        self.0.verify_slice(mac).is_ok()
    }
}
