//! Wrong input from the command line, the environment and files: the program says what holds the wrong value and what
//! to write instead, and exits at once.

use std::{ffi::OsStr, net::TcpListener, os::unix::ffi::OsStrExt};

use crate::support::process::{Process, TOKEN};

/// Runs underpass with an environment. Returns its exit status and output.
async fn run(line: &str, environment: &[(&str, &OsStr)]) -> (Option<i32>, String) {
    let words: Vec<_> = line.split(' ').collect();
    let mut process = Process::underpass_with(&words, |command| {
        command.envs(environment.iter().copied());
    });
    let status = process.exit().await.code();
    assert!(!process.output().contains("panicked"), "{}", process.output());
    (status, process.output())
}

#[tokio::test]
async fn the_variable_or_file_with_a_wrong_value_is_named() {
    let server = "server --listen 127.0.0.1:0 --no-tui";
    let bytes = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    for (line, environment, status, expected) in [
        (server, vec![("UNDERPASS_TOKEN", bytes(b""))], 2, "UNDERPASS_TOKEN: the token is blank"),
        (server, vec![("UNDERPASS_TOKEN", bytes(b"a\x1b[31m"))], 2, "UNDERPASS_TOKEN: the token contains"),
        (server, vec![("UNDERPASS_TOKEN", bytes(b"\xff"))], 2, "environment variable UNDERPASS_TOKEN"),
        (server, vec![("UNDERPASS_LOG", bytes(b"inof"))], 2, "environment variable UNDERPASS_LOG"),
        ("server --token-file /nonexistent", vec![], 1, "/nonexistent (--token-file): No such file"),
        ("server --token-file /", vec![], 1, "/ (--token-file): Is a directory"),
        ("server --token-file /dev/zero", vec![], 1, "/dev/zero (--token-file): it is longer than"),
        ("server --token-file /dev/null", vec![], 1, "/dev/null (--token-file): the token is blank"),
        ("server --state-dir /dev/null", vec![], 1, "set --token-file or --state-dir"),
        (
            "server --state-dir /dev/null",
            vec![],
            1,
            "/dev/null is no directory: choose another one with --state-dir",
        ),
        (
            "server --no-tui --listen 127.0.0.1:0 --token vK8dR2xQ9mWz4LpT7cYb --record /dev/null",
            vec![],
            1,
            "cannot record in /dev/null (--record): File exists (os error 17); /dev/null is no directory: choose another one \
             with --record",
        ),
        (
            "server --listen 127.0.0.1:0 --token vK8dR2xQ9mWz4LpT7cYb --metrics 192.0.2.1:9",
            vec![],
            1,
            "cannot listen for scrapers on 192.0.2.1:9 (option --metrics): Cannot assign requested address (os error 99); this \
             machine does not have that address",
        ),
        (
            "proxy --server h:1 --port 1 --to t:2 --token vK8dR2xQ9mWz4LpT7cYb --ca /dev/null",
            vec![],
            1,
            "cannot use the certificate authorities in /dev/null (--ca): it contains no certificate: expected PEM",
        ),
        ("attach nosuch", vec![], 6, "no server or proxy «nosuch»"),
        ("attach /etc/passwd", vec![], 6, "cannot connect to /etc/passwd"),
        ("attach ssh", vec![], 2, "the host is missing: underpass attach ssh HOST"),
        (
            "server --token vK8dR2xQ9mWz4LpT7cYb --bind 192.0.2.1",
            vec![],
            1,
            "public ports on 192.0.2.1:0 (options --bind and --ports)",
        ),
        (
            "server --token vK8dR2xQ9mWz4LpT7cYb --listen 192.0.2.1:7000",
            vec![],
            1,
            "this machine does not have that address",
        ),
        ("proxy --server h:1 --port 1 --to t:2", vec![], 1, "missing token: give --token-file FILE"),
    ] {
        let (code, output) = run(line, &environment).await;
        assert_eq!(code, Some(status), "{line}: {output}");
        assert!(output.contains(expected), "{line}: {output}");
        assert!(!output.contains("\x1b[31m"), "{line}: {output}");
    }
}

/// `chmod o=` on the host name, which is no key, would have been the next step.
#[tokio::test]
async fn a_file_that_is_no_key_gets_no_advice_about_its_mode() {
    let (code, output) = run("server --no-tui --listen 127.0.0.1:0 --cert /etc/passwd", &[]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("/etc/passwd: ") && !output.contains("chmod"), "{output}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (code, output) = run(&format!("server --token {TOKEN} --no-tui --listen {addr}"), &[]).await;
    assert_eq!(code, Some(1), "{output}");
    let expected = format!("cannot listen for proxies on {addr} (option --listen): Address already in use");
    assert!(output.contains(&expected) && output.contains("--reuse-port"), "{output}");
}
