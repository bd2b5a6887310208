//! The command that makes another machine a proxy of this server.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use super::certificate::{CertificateOrigin, ServerCertificate};

/// The command that makes another machine a proxy of this server: address, how to verify the server, and the token.
///
/// The fingerprint has an argument of its own, beside the token: it is no secret, and may change when no token does and
/// stay when one is revoked. A token in a file or in `UNDERPASS_TOKEN` stays the token alone, for all programs that
/// read it.
#[derive(Debug, Clone)]
pub(super) struct JoinCommand {
    /// The arguments before the token.
    server: String,
}

impl JoinCommand {
    /// Creates the command for a server that listens on `listen` with this certificate; without one it speaks no TLS.
    pub(super) fn new(listen: SocketAddr, certificate: Option<&ServerCertificate>) -> Self {
        let address = match listen.ip() {
            ip if ip.is_unspecified() => reachable_address(outgoing_addr(), listen.port()),
            _ => listen.to_string(),
        };
        let server = match certificate {
            None if listen.ip().is_loopback() => format!("{address} --plain"),
            None => format!("{address} --plain --insecure"),
            Some(certificate) => match (trusted_name(certificate), certificate.lasting_fingerprint()) {
                (Some(name), _) => format!("{}:{} --verify system", quote(&name), listen.port()),
                (None, Some(fingerprint)) => format!("{address} --fingerprint {fingerprint}"),
                (None, None) => address,
            },
        };
        Self { server }
    }

    /// Returns the command line with `token`, the argument that gives the token.
    pub(super) fn with(&self, token: &str) -> String {
        format!("underpass proxy --server {} {token} --port 8080 --to 127.0.0.1:80", self.server)
    }
}

/// Returns the first host name of a certificate that the authorities of this machine have issued; `None` for a
/// certificate of others. Then the proxies can verify the name, and a renewed certificate may have another key.
fn trusted_name(certificate: &ServerCertificate) -> Option<String> {
    if matches!(certificate.origin, CertificateOrigin::Generated(_)) {
        return None;
    }
    let is_host = |name: &&String| !name.contains('*') && name.parse::<IpAddr>().is_err();
    let name = certificate.identity.names().iter().find(is_host)?;
    certificate.identity.is_trusted_by_system(name).then(|| name.clone())
}

/// Returns an option with its value, so that a shell passes it on unchanged, whatever characters it has.
pub(super) fn argument(option: &str, value: &str) -> String {
    // The parser of the command line takes a word that begins with a hyphen for an option.
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!("{option}{separator}{}", quote(value))
}

/// Quotes a word for a POSIX shell, where it needs quotes.
pub(super) fn quote(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,+@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// Returns the address of a server that listens on all addresses of a machine of which this is one; without one it says
/// what to write there, because a proxy that connects to 0.0.0.0 finds itself.
fn reachable_address(ip: Option<IpAddr>, port: u16) -> String {
    ip.map_or_else(|| format!("SERVER:{port}"), |ip| SocketAddr::new(ip, port).to_string())
}

/// Returns the source address that the kernel would choose for a packet to the internet, of IPv6 only where there is no
/// other. Nothing is sent.
fn outgoing_addr() -> Option<IpAddr> {
    let source = |any: &str, remote: &str| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    // Addresses reserved for documentation (RFC 5737, RFC 3849): any address outside of this machine would do.
    source("0.0.0.0:0", "192.0.2.1:9").or_else(|| source("[::]:0", "[2001:db8::1]:9"))
}

#[cfg(test)]
mod tests;
