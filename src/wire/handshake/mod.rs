//! The handshake of the binary format: proxy and server prove to each other that they know the same token, without
//! sending it.
//!
//! ```text
//!          proxy                                     server
//!  ClientHandshake::start                     ServerHandshake::new
//!     HelloSent ───────── HELLO ───────────────▶ AwaitingHello
//!     HelloSent ◀─────── CHALLENGE ───────────── ChallengeSent    the server looks up the link, if one is named
//!     ProofSent ───────── PROOF ───────────────▶ ChallengeSent
//!     ProofSent ◀─────── WELCOME ─────────────── verified         the server numbers link and channel
//!       done                                       done
//! ```
//!
//! Any other frame, and any proof that does not verify, ends the handshake with a [`HandshakeError`]; either side may
//! send [`HandshakeError::refusal`] in place of its next frame. Handling a frame consumes the state, so that one
//! connection allows one guess.
//!
//! What this protects against, and what it does not:
//!
//! - *Replay:* a proxy's proof covers the server's nonce of this connection, and the server's proof covers the proxy's
//!   nonce. A recorded proof does not verify under another nonce.
//! - *Reflection:* the two proofs use different labels, and the server's proof covers the proxy's. Neither verifies in
//!   place of the other, and a server that opens a handshake to a proxy learns nothing that it could send back.
//! - *Tampering:* the proofs cover every field of HELLO and WELCOME.
//! - *Link hijacking:* all proxies may share one token, so a HELLO that names a link must also prove the resume secret,
//!   which only that link's proxy was given. Without TLS an eavesdropper can read that secret in WELCOME.
//! - *Guessing is possible:* an attacker who records a handshake, or poses as the server once, can test tokens against
//!   the proof offline. A generated token is out of reach, and a text that looks guessable is refused
//!   ([`Token::parse`]).
//! - *A man in the middle* can relay the handshake unchanged, and without TLS he then controls the connection. Over TLS
//!   the proofs cover keying material of the session ([`Transcript::exporter`]), which differs on his two sides:
//!   neither of his peers accepts the proof of the other, whatever certificate he has. He has seen a proof then, and
//!   can test tokens.

mod client;
mod error;
mod mac;
mod proof;
mod server;
#[cfg(test)]
mod tests;
mod token;
mod token_key;

pub use client::{ClientHandshake, ClientStep};
pub use error::HandshakeError;
pub use proof::{Transcript, client_proof, server_proof, verify_client, verify_server};
pub use server::{ServerHandshake, ServerStep, VerifiedProxy};
pub use token::{Token, TokenError};
pub use token_key::TokenKey;
