//! Which files a directory is searched for, and what is said about those that cannot be used.

use std::{os::unix::fs::PermissionsExt as _, process};

use super::*;

/// Creates an empty directory for one test, with these files.
fn directory(test: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("underpass-cert-{test}-{}", process::id()));
    _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    for (name, text) in files {
        fs::write(path.join(name), text).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

#[test]
fn the_files_of_common_acme_clients_are_found() {
    for (chain, key, others) in [
        ("fullchain.pem", "privkey.pem", &["cert.pem", "chain.pem"][..]),
        ("fullchain.pem", "key.pem", &["cert.pem"]),
        ("cert.pem", "key.pem", &["ca.pem"]),
        ("tls.crt", "tls.key", &["ca.crt"]),
        ("tunnel.test.crt", "tunnel.test.key", &["tunnel.test.issuer.crt", "tunnel.test.json"]),
        ("fullchain.cer", "tunnel.test.key", &["tunnel.test.cer", "ca.cer", "tunnel.test.csr"]),
    ] {
        let files: Vec<_> = [chain, key].iter().chain(others).map(|name| (*name, "")).collect();
        let path = directory("names", &files);
        let expected = CertificateFiles { chain: path.join(chain), key: path.join(key) };
        assert_eq!(CertificateFiles::find(&path, None).unwrap(), expected);
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let (pem, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (key, certificate) = pem.split_at(pem.find("-----BEGIN CERTIFICATE").unwrap());
    let files = [("pair", &*pem), ("key", key), ("cert", certificate), ("other", &other), ("empty", "")];
    let path = directory("errors", &files);
    let load = |cert: &str, key: Option<&str>| {
        let key = key.map(|key| path.join(key));
        let files = CertificateFiles::find(&path.join(cert), key.as_deref())?;
        files.load().map_err(|error| {
            anyhow::anyhow!("{}", format!("{error:#}").replace(&format!("{}/", path.display()), ""))
        })
    };
    load("pair", None).unwrap();
    load("cert", Some("key")).unwrap();
    for (cert, key, expected) in [
        (
            "cert",
            None,
            "cert: it contains no private key: expected PEM, with -----BEGIN PRIVATE KEY-----; give the file of the key with --key",
        ),
        (
            "cert",
            Some("empty"),
            "empty: it contains no private key: expected PEM, with -----BEGIN PRIVATE KEY-----",
        ),
        (
            "empty",
            Some("key"),
            "empty: it contains no certificate: expected PEM, with -----BEGIN CERTIFICATE-----",
        ),
        ("cert", Some("other"), "other: the private key does not belong to the first certificate"),
        ("cert", Some("none"), "cannot read none: No such file or directory (os error 2)"),
    ] {
        assert_eq!(load(cert, key).unwrap_err().to_string(), expected);
    }
    let error =
        |cert: &Path, key: Option<&Path>| format!("{:#}", CertificateFiles::find(cert, key).unwrap_err());
    let missing = error(&path.join("none"), None);
    assert!(
        missing.starts_with("cannot read /") && missing.contains("none (--cert): No such file"),
        "{missing}"
    );
    assert!(error(&path, None).contains("no certificate and key of known names"), "{}", error(&path, None));
    assert!(error(&path, Some(&path.join("key"))).contains("leave --key out"));
    fs::write(path.join("a.key"), "").unwrap();
    assert!(error(&path, None).contains("a.key (--cert) has no certificate beside it"));
    fs::write(path.join("b.key"), "").unwrap();
    assert!(error(&path, None).contains("several keys"));
    fs::remove_dir_all(&path).unwrap();
}
