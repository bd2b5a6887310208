//! The text of a fingerprint, and what it covers.

use rcgen::{CertificateParams, KeyPair};

use super::*;

#[test]
fn a_fingerprint_is_parsed_in_the_forms_of_common_tools() {
    let fingerprint = Fingerprint(std::array::from_fn(|i| 250 - (i * 7) as u8));
    let text = fingerprint.to_string();
    assert!(text.starts_with("sha256:") && text.len() == 50, "{text}");
    let body = &text[PREFIX.len()..];
    assert!(body.contains(['-', '_']), "no character that differs between the alphabets: {body}");
    let hex: String = fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
    let colons =
        hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(":");
    let standard = format!("{}=", body.replace('-', "+").replace('_', "/"));
    for form in [
        &text,
        &format!(" SHA256:{body}\n"),
        body,
        &hex,
        &hex.to_lowercase(),
        &colons,
        &standard,
        &format!("sha256//{standard}"),
    ] {
        assert_eq!(form.parse(), Ok(fingerprint), "{form}");
    }
    for wrong in
        ["", "sha256:", "sha1:abc", &text[..49], &format!("{text}A"), &hex[..62], "sha256:ünïcödé", "ü"]
    {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
    }
}

#[test]
fn a_renewed_certificate_with_the_same_key_has_the_same_fingerprint() {
    let key = KeyPair::generate().unwrap();
    let certificate =
        |name: &str| CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let (old, new) = (certificate("old.test"), certificate("new.test"));
    assert_ne!(old.der(), new.der());
    let fingerprint = Fingerprint::of(old.der()).unwrap();
    assert_eq!(Fingerprint::of(new.der()).unwrap(), fingerprint);
    // What curl and openssl calculate: the hash of the key as X.509 encodes it.
    assert_eq!(
        fingerprint,
        Fingerprint(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into())
    );
    let other = CertificateParams::new(["old.test".to_owned()]).unwrap();
    let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_ne!(Fingerprint::of(other.der()).unwrap(), fingerprint);
}
