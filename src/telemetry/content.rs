use std::{fmt, sync::Arc};

/// What a stream carries, as far as its first bytes tell. Text in it comes from outside; it is cleaned and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// HTTP/1: the request that is answered now, or was last.
    Http {
        /// The method of the request.
        method: Arc<str>,
        /// Its target without the query, which is long and often has secrets in it.
        target: Arc<str>,
        /// The status of the response, once it came.
        status: Option<u16>,
        /// The body of the response, where its size is known.
        body: Option<Progress>,
    },
    /// TLS.
    Tls {
        /// The server's name, if the client named one.
        sni: Option<Arc<str>>,
    },
    /// SSH.
    Ssh {
        /// The program and version that whoever spoke first gave.
        banner: Option<Arc<str>>,
    },
    /// Anything else.
    Tcp,
}

impl Content {
    /// The body that comes down now, where its size is known.
    pub fn body(&self) -> Option<Progress> {
        match self {
            Self::Http { body, .. } => *body,
            _ => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { method, target, .. } => write!(f, "{method} {target}"),
            Self::Tls { sni: Some(name) } => write!(f, "TLS {name}"),
            Self::Tls { sni: None } => f.write_str("TLS"),
            Self::Ssh { .. } => f.write_str("SSH"),
            Self::Tcp => f.write_str("TCP"),
        }
    }
}

/// A download of known size within a stream. A connection that stays open carries one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes had gone to the user when it began.
    pub begun: u64,
    /// Its size; never 0.
    pub size: u64,
}

impl Progress {
    /// How many bytes of it have arrived when `down` have gone to the user in all.
    pub fn arrived(&self, down: u64) -> u64 {
        down.saturating_sub(self.begun).min(self.size)
    }

    /// The same as a share, from 0 to 1.
    pub fn share(&self, down: u64) -> f64 {
        self.arrived(down) as f64 / self.size.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_in_a_few_words() {
        let body = Some(Progress { begun: 1, size: 2 });
        let http = Content::Http { method: "GET".into(), target: "/a".into(), status: Some(200), body };
        assert_eq!(http.to_string(), "GET /a");
        assert_eq!(Content::Tls { sni: Some("app.example".into()) }.to_string(), "TLS app.example");
        assert_eq!(Content::Tls { sni: None }.to_string(), "TLS");
        assert_eq!(Content::Ssh { banner: Some("SSH-2.0-x".into()) }.to_string(), "SSH");
        assert_eq!(Content::Tcp.to_string(), "TCP");
    }

    #[test]
    fn progress_stays_between_nothing_and_all() {
        let progress = Progress { begun: 100, size: 400 };
        // The counter of bytes may be read a moment before or after the body was seen.
        assert_eq!([90, 100, 200, 500, 900].map(|down| progress.share(down)), [0.0, 0.0, 0.25, 1.0, 1.0]);
        assert_eq!(progress.arrived(u64::MAX), 400);
    }
}
