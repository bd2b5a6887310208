//! What is said about each kind of error, and which ones end a proxy.

use std::time::Duration;

use rustls::pki_types::ServerName;

use super::*;

/// Returns the time so many years after 1970.
fn years(years: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(years * 31_557_600))
}

#[test]
fn an_error_says_what_to_do_and_only_what_time_does_not_cure_is_permanent() {
    let expected = ServerName::try_from("tunnel.test").unwrap();
    let presented = vec!["DnsName(\"other\u{1b}[31m.test\")".to_owned(), "IpAddress(192.0.2.1)".to_owned()];
    for (error, text, is_permanent) in [
        (
            CertificateError::ExpiredContext { time: years(100), not_after: years(56) }.into(),
            "expired on ",
            false,
        ),
        (
            CertificateError::NotValidYetContext { time: years(0), not_before: years(56) }.into(),
            "set the clock",
            false,
        ),
        (
            CertificateError::NotValidForNameContext { expected, presented }.into(),
            "and not for tunnel.test",
            true,
        ),
        (CertificateError::UnknownIssuer.into(), "--ca", true),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "--plain", false),
        (Error::AlertReceived(AlertDescription::ProtocolVersion), "another program", false),
        (Error::AlertReceived(AlertDescription::UnknownCA), "does not trust", false),
        (Error::NoApplicationProtocol, "public ports", false),
        (Error::DecryptError, "decrypt", false),
    ] {
        let error = TlsError::from(error);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.is_permanent(), is_permanent, "{error}");
    }
    let early = TlsError::from(Error::from(CertificateError::NotValidYetContext {
        time: years(0),
        not_before: years(56),
    }));
    let early = early.to_string();
    assert!(early.contains("says Jan  1") && early.contains("1970") && early.contains("2026"), "{early}");
}
