//! The command can be pasted into a shell, whatever the token is.

use std::process::Command;

use super::*;
use crate::cli::state_dir::KeptIn;
use crate::tls::Identity;

/// Characters that mean something to a shell, and words that look like options.
const WORDS: [&str; 9] = [
    "plain-Word_1",
    "two words",
    "$HOME `id` \\",
    "it's \"quoted\"",
    "!history",
    "-leading",
    "--token",
    "#*?~;&|<>(){}",
    "ünïcödé",
];

#[test]
fn a_shell_passes_an_argument_on_unchanged() {
    for word in WORDS {
        let printed = Command::new("sh")
            .arg("-c")
            .arg(format!("printf %s {}", quote(word).replace('%', "%%")))
            .output();
        // printf takes a leading hyphen for an option, which the argument avoids.
        if !word.starts_with('-') {
            assert_eq!(String::from_utf8(printed.unwrap().stdout).unwrap(), word);
        }
        let script = format!("for word in {}; do echo \"[$word]\"; done", argument("--token", word));
        let words =
            String::from_utf8(Command::new("sh").arg("-c").arg(script).output().unwrap().stdout).unwrap();
        let expected = match word.starts_with('-') {
            true => format!("[--token={word}]\n"),
            false => format!("[--token]\n[{word}]\n"),
        };
        assert_eq!(words, expected);
    }
    assert_eq!(quote(""), "''");
    assert_eq!(argument("--token", "abc-DEF_1"), "--token abc-DEF_1");
}

#[test]
fn the_command_never_has_an_address_that_leads_back_to_the_proxy() {
    let of = |ip: &str| reachable_address(ip.parse().ok(), 7000);
    assert_eq!(of("192.0.2.1"), "192.0.2.1:7000");
    assert_eq!(of("2001:db8::1"), "[2001:db8::1]:7000");
    assert_eq!(of("no route"), "SERVER:7000");
}

#[test]
fn the_command_says_how_to_verify_the_server() {
    let listen = "127.0.0.1:7000".parse().unwrap();
    let pem = Identity::generate().unwrap();
    let certificate =
        |origin| ServerCertificate { identity: Identity::from_pem(&pem, &pem).unwrap(), origin };
    let kept = certificate(CertificateOrigin::Generated(KeptIn::File("/state/tls.pem".into())));
    let rest = "--token x --port 8080 --to 127.0.0.1:80";
    assert_eq!(
        JoinCommand::new(listen, Some(&kept)).with("--token x"),
        format!(
            "underpass proxy --server 127.0.0.1:7000 --fingerprint {} {rest}",
            kept.identity.fingerprint()
        )
    );
    // Proxies would be refused after the next start.
    let volatile = certificate(CertificateOrigin::Generated(KeptIn::Memory("read-only".to_owned())));
    let command = JoinCommand::new(listen, Some(&volatile)).with("--token x");
    assert_eq!(command, format!("underpass proxy --server 127.0.0.1:7000 {rest}"));
    let command = JoinCommand::new(listen, None).with("--token x");
    assert_eq!(command, format!("underpass proxy --server 127.0.0.1:7000 --plain {rest}"));
    let command = JoinCommand::new("192.0.2.1:7000".parse().unwrap(), None).with("--token x");
    assert_eq!(command, format!("underpass proxy --server 192.0.2.1:7000 --plain --insecure {rest}"));
}
