//! Programs that reach the tunnel port by mistake: browsers and SSH clients, which are meant for a public port.

/// What is said to them. The name of the program is not: scanners of the internet need not know it.
const EXPLANATION: &str = "This port is for the proxies of a tunnel; users connect to the public ports.";

/// A protocol that the tunnel port does not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherProtocol {
    /// A request of HTTP/1.1 or the preface of HTTP/2.
    Http,
    /// The identification of an SSH client (RFC 4253, section 4.2).
    Ssh,
}

impl OtherProtocol {
    /// Returns the protocol of a client whose first bytes these are; `None` if it is unknown.
    pub(super) fn detect(first: &[u8]) -> Option<Self> {
        let line = first.split(|&byte| byte == b'\n').next().unwrap_or(first).trim_ascii_end();
        if line.starts_with(b"SSH-") {
            return Some(Self::Ssh);
        }
        let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        version.starts_with(b"HTTP/").then_some(Self::Http)
    }

    /// Returns the answer that the client shows to its user.
    pub(super) fn answer(self) -> String {
        match self {
            Self::Http => format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{EXPLANATION}\n",
                EXPLANATION.len() + 1
            ),
            // A line before the identification of the server, which clients show to their user or log.
            Self::Ssh => format!("{EXPLANATION}\r\n"),
        }
    }

    /// Returns the name of the protocol, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Ssh => "SSH",
        }
    }
}
