//! What a generated identity is, and which ones are refused.

use rcgen::SanType;

use super::*;

#[test]
fn a_generated_identity_is_valid_at_any_time_and_names_no_machine() {
    let pem = Identity::generate().unwrap();
    let identity = Identity::from_pem(&pem, &pem).unwrap();
    assert_eq!(identity.names(), ["underpass"]);
    assert_eq!(identity.validity_problem(), None);
    assert_eq!(identity.not_before.timestamp(), 0);
    assert!(identity.not_after.to_string().contains("9999"), "{}", identity.not_after);
    assert!(!format!("{identity:?}").contains("PRIVATE"));
    let other = Identity::generate().unwrap();
    assert_ne!(Identity::from_pem(&other, &other).unwrap().fingerprint(), identity.fingerprint());
}

#[test]
fn an_unusable_chain_or_key_is_refused_with_the_reason() {
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificates, key, expected) in [
        ("", &*one, "no certificate"),
        (&one, "", "no private key"),
        (&one, encrypted, "openssl pkey"),
        (&one, &two, "does not belong to the first certificate"),
        (no_der, &one, "malformed"),
        ("-----BEGIN CERTIFICATE-----\n", &one, "not PEM"),
    ] {
        let error = Identity::from_pem(certificates, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_certificate_outside_of_its_validity_is_reported_with_both_dates() {
    let key = KeyPair::generate().unwrap();
    let problem = |from: i32, to: i32| {
        let mut params = CertificateParams::new(["tunnel.test".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let pem = params.self_signed(&key).unwrap().pem();
        let identity = Identity::from_pem(&pem, &key.serialize_pem()).unwrap();
        assert_eq!(identity.names(), ["tunnel.test", "192.0.2.1"]);
        identity.validity_problem()
    };
    let expired = problem(2001, 2002).unwrap();
    assert!(expired.contains("expired on Jan  1") && expired.contains("2002"), "{expired}");
    let early = problem(2901, 2902).unwrap();
    assert!(early.contains("is not valid before Jan  1") && early.contains("2901"), "{early}");
    assert_eq!(problem(2001, 2902), None);
}
