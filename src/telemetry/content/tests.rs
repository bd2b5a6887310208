//! The short text of a content, and the bounds of a progress.

use super::*;

#[test]
fn content_is_shown_in_a_few_words() {
    let body = Some(Progress { begun: 1, size: 2 });
    let http = Content::Http { method: "GET".into(), target: "/a".into(), status: Some(200), body };
    assert_eq!(http.to_string(), "GET /a");
    assert_eq!(Content::Tls { sni: Some("app.example".into()) }.to_string(), "TLS app.example");
    assert_eq!(Content::Tls { sni: None }.to_string(), "TLS");
    assert_eq!(Content::Ssh { banner: Some("SSH-2.0-x".into()) }.to_string(), "SSH");
    assert_eq!(Content::Tcp.to_string(), "TCP");
}

#[test]
fn progress_stays_between_0_and_1() {
    let progress = Progress { begun: 100, size: 400 };
    // The byte counter may be read just before or just after inspection saw the body begin.
    assert_eq!([90, 100, 200, 500, 900].map(|down| progress.share(down)), [0.0, 0.0, 0.25, 1.0, 1.0]);
    assert_eq!(progress.arrived(u64::MAX), 400);
}
