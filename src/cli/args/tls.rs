//! The arguments of TLS on channels.

use std::{collections::HashSet, fs::File, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::services::ServerArg;
use crate::{
    cli::{certificate::ServerCertificate, text_file},
    config::{Exposure, ProxyFormat, ServerEndpoint, TextProxies},
    tls::{ClientTls, Fingerprint, ServerVerification},
};

/// The longest file of authorities in bytes: that of all public ones has a quarter of it.
const MAX_AUTHORITIES_BYTES: usize = 1024 * 1024;

/// The TLS arguments of the server.
#[derive(Debug, Args)]
pub(in crate::cli) struct ServerTlsArgs {
    /// Certificate chain in PEM, or a directory that an ACME client maintains (fullchain.pem and privkey.pem, tls.crt
    /// and tls.key, …). Read again when a file changes, and on SIGHUP where the server has no terminal [default: a
    /// self-signed certificate that the server generates and keeps in --state-dir]
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "plain")]
    cert: Option<PathBuf>,
    /// Private key of the certificate in PEM [default: in the file of --cert]
    #[arg(long, value_name = "FILE", requires = "cert", conflicts_with = "plain")]
    key: Option<PathBuf>,
    /// Turn TLS off: channels are authenticated, but in clear text, so that any host on the path can read and change
    /// what users send and receive. Proxies need --plain too
    #[arg(long)]
    plain: bool,
    /// Allow clear text from other machines: --plain on an address that is not a loopback address, and with --text any
    /// proxies of the text format without TLS, which send the token in clear text
    #[arg(long)]
    pub(super) insecure: bool,
}

impl ServerTlsArgs {
    /// Returns the server's certificate, reading or generating it; `None` without TLS.
    ///
    /// # Errors
    /// It cannot be used.
    pub(in crate::cli) fn certificate(
        &self,
        state_dir: Option<&PathBuf>,
    ) -> anyhow::Result<Option<ServerCertificate>> {
        match self.given_certificate()? {
            _ if self.plain => Ok(None),
            None => ServerCertificate::generate(state_dir.map(PathBuf::as_path)).map(Some),
            given => Ok(given),
        }
    }

    /// Reads the certificate that is given; `None` if none is.
    ///
    /// # Errors
    /// It cannot be used.
    pub(in crate::cli) fn given_certificate(&self) -> anyhow::Result<Option<ServerCertificate>> {
        self.cert.as_deref().map(|cert| ServerCertificate::read(cert, self.key.as_deref())).transpose()
    }

    /// Returns what is wrong with the arguments together with the address that the server listens on and the text
    /// proxies that it admits.
    pub(super) fn conflict(&self, listen: SocketAddr, text: TextProxies) -> Option<String> {
        if !self.plain || self.insecure {
            return None;
        }
        if !listen.ip().to_canonical().is_loopback() {
            return Some(format!(
                "--plain with --listen {listen}: {}. Leave --plain out, listen on a loopback address, or give --insecure too \
                 if the network is private (a VPN)",
                Exposure::ClearText
            ));
        }
        (text == TextProxies::Anywhere).then(|| {
            "--text any needs TLS, because text proxies send the token itself: leave --plain out, or give --insecure too"
                .to_owned()
        })
    }
}

/// How a proxy verifies the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    /// By the token: the server proves that it knows the token, and that there is no third party between, with a proof
    /// that covers the TLS connection
    Token,
    /// By the certificate authorities that this machine trusts, and by the host name in --server
    System,
}

/// The TLS arguments of a proxy.
#[derive(Debug, Args)]
pub(in crate::cli) struct ProxyTlsArgs {
    /// Fingerprint of the server's key, as the server shows it; connections to any other key are refused. Several,
    /// separated by commas, allow for a change of the key. For several servers give each its own in --server
    #[arg(long, value_name = "sha256:…", value_delimiter = ',', conflicts_with_all = ["verify", "ca"])]
    fingerprint: Vec<Fingerprint>,
    /// How the server's certificate is verified, beside the proof of the token
    #[arg(long, value_enum, default_value_t = Verify::Token)]
    verify: Verify,
    /// Certificate authorities in PEM to verify the server's certificate and the host name with, in place of those of
    /// the system
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    ca: Option<PathBuf>,
    /// Turn TLS off, for a server with --plain: any host on the path can read and change what users send and receive
    #[arg(long, conflicts_with_all = ["fingerprint", "verify", "ca"])]
    plain: bool,
    /// Allow --plain to another machine, and --format text to a server whose certificate is not verified
    #[arg(long)]
    insecure: bool,
}

impl ProxyTlsArgs {
    /// Resolves the arguments into the servers, each with its TLS setting.
    ///
    /// # Errors
    /// The certificate authorities cannot be read.
    pub(in crate::cli) fn resolve(&self, servers: &[ServerArg]) -> anyhow::Result<Vec<ServerEndpoint>> {
        // Read only if a server needs it: the authorities of the system take a while.
        let mut default = None;
        let mut default = || -> anyhow::Result<Option<ClientTls>> {
            if default.is_none() {
                default = Some(self.resolve_default()?);
            }
            Ok(default.clone().flatten())
        };
        let resolve = |server: &ServerArg| {
            let tls = match &server.fingerprints[..] {
                [] => default()?,
                pinned => {
                    let verification = ServerVerification::Fingerprints(pinned.to_vec());
                    Some(ClientTls::new(verification).context("cannot use TLS")?)
                }
            };
            Ok(ServerEndpoint { address: server.address.clone(), tls, insecure: self.insecure })
        };
        servers.iter().map(resolve).collect()
    }

    /// Resolves the arguments into the TLS setting of servers without a fingerprint of their own; `None` without TLS.
    fn resolve_default(&self) -> anyhow::Result<Option<ClientTls>> {
        if self.plain {
            return Ok(None);
        }
        let (verification, failure) = match (&self.ca, self.verify) {
            (Some(path), _) => {
                let failure = format!("cannot use the certificate authorities in {} (--ca)", path.display());
                let pem = File::open(path).and_then(|file| text_file::read(file, MAX_AUTHORITIES_BYTES));
                (ServerVerification::Authorities(pem.with_context(|| failure.clone())?), failure)
            }
            (None, Verify::System) => (
                ServerVerification::System,
                "cannot use the certificate authorities of this machine (--verify system); install ca-certificates, or \
                 name a file with --ca or SSL_CERT_FILE"
                    .to_owned(),
            ),
            (None, Verify::Token) if self.fingerprint.is_empty() => {
                (ServerVerification::Token, "cannot use TLS".to_owned())
            }
            (None, Verify::Token) => {
                (ServerVerification::Fingerprints(self.fingerprint.clone()), "cannot use TLS".to_owned())
            }
        };
        ClientTls::new(verification).map(Some).map_err(|error| match error {
            // Its text is complete; the type would call it an unexpected error.
            rustls::Error::General(why) => anyhow::anyhow!("{failure}: {why}"),
            error => anyhow::anyhow!("{failure}: {error}"),
        })
    }

    /// Returns what is wrong with the servers alone.
    pub(super) fn repetition(servers: &[ServerArg]) -> Option<String> {
        let mut addresses = HashSet::new();
        let twice = servers.iter().find(|server| !addresses.insert(&server.address))?;
        Some(format!("{} is given twice: leave one of them out", twice.address))
    }

    /// Returns what is wrong with the arguments together with the servers and the format.
    pub(super) fn conflict(&self, servers: &[ServerArg], format: ProxyFormat) -> Option<String> {
        if servers.len() > 1 && !self.fingerprint.is_empty() {
            return Some(
                "--fingerprint with several servers: each would be accepted with the key of another one. Write it behind the \
                 address of its server, --server HOST:PORT#sha256:…"
                    .to_owned(),
            );
        }
        if let Some(pinned) = servers.iter().find(|server| self.plain && !server.fingerprints.is_empty()) {
            return Some(format!(
                "--plain with the fingerprint of {}: without TLS the server has no key. Leave one of them out",
                pinned.address
            ));
        }
        servers.iter().find_map(|server| self.exposure(server, format))
    }

    /// Returns why the proxy must not connect to a server with these arguments.
    fn exposure(&self, server: &ServerArg, format: ProxyFormat) -> Option<String> {
        let is_verified = self.ca.is_some()
            || self.verify == Verify::System
            || !(self.fingerprint.is_empty() && server.fingerprints.is_empty());
        let exposure = Exposure::of(&server.address, (!self.plain).then_some(is_verified), format)?;
        let remedy = match exposure {
            _ if self.insecure => return None,
            Exposure::ClearText => {
                "Leave --plain out here and at the server, or give --insecure too if the network is private (a VPN)"
            }
            Exposure::Token => {
                "Verify the server with --fingerprint, --ca or --verify system, or give --insecure too"
            }
        };
        let option = if self.plain { "--plain" } else { "--format text" };
        Some(format!("{option} to {}: {exposure}. {remedy}", server.address))
    }
}
