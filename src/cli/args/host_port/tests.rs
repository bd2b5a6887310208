//! Addresses that can be used, and what is said of those that cannot.

use super::*;

#[test]
fn hosts_with_a_port_are_accepted() {
    for text in [
        "h:1",
        "example.org:7000",
        "example.org.:7000",
        "my_host-1.internal:65535",
        "xn--bcher-kva.example:80",
        "127.0.0.1:80",
        "127.1:80",
        "[::1]:80",
        "[2001:db8::1]:7000",
        "[fe80::1%2]:7000",
        "1password.example:1",
        "0x7f.example:1",
    ] {
        assert_eq!(host_port(text), Ok(text.to_owned()));
    }
}

#[test]
fn what_cannot_be_connected_to_is_refused_with_what_to_write_instead() {
    for (text, expected) in [
        ("", "the port is missing"),
        ("example.org", "write example.org:PORT"),
        ("example.org:", "is not a port"),
        ("example.org:0", "port 0"),
        ("example.org:+80", "is not a port"),
        ("example.org:65536", "65536 is not a port: expected a number of 1 to 65535"),
        ("example.org:http", "http is not a port"),
        ("8080", "write 127.0.0.1:8080"),
        (":8080", "write 127.0.0.1:8080"),
        ("http://example.org:80/path", "this is a URL: write HOST:PORT alone, example.org:80"),
        ("https://me@example.org", "this is a URL: write HOST:PORT alone, example.org:PORT"),
        ("::1", "[::1]:PORT"),
        ("2001:db8::1:7000", "[2001:db8::1:7000]:PORT"),
        ("2001:db8:0:0:0:0:0:1:7000", "[2001:db8:0:0:0:0:0:1]:7000"),
        ("[::1]", "the port is missing: write [::1]:PORT"),
        ("[::1%eth0]:80", "number of the interface"),
        ("[example.org]:80", "has to be an IPv6 address"),
        ("a:b:80", "more than one colon"),
        ("me@example.org:80", "without a path and a user name"),
        ("example.org/path:80", "without a path and a user name"),
        ("exam ple.org:80", "contains « »"),
        ("exam\u{1b}ple.org:80", "contains «\\u{1b}»"),
        ("bücher.example:80", "xn--"),
        ("a..b:80", "empty part"),
        (".:80", "empty part"),
        ("-a.b:80", "begin or end with '-'"),
        ("256.0.0.1:80", "four numbers"),
        ("1.2.3.4.5:80", "four numbers"),
        ("example.1:80", "four numbers"),
    ] {
        let error = host_port(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let label = "a".repeat(MAX_LABEL_CHARS);
    assert!(host_port(&format!("{label}.b:1")).is_ok());
    assert!(host_port(&format!("{label}a.b:1")).unwrap_err().contains("longer than 63"));
    assert!(
        host_port(&format!("{label}.{label}.{label}.{label}:1")).unwrap_err().contains("longer than 253")
    );
}

#[test]
fn what_cannot_be_listened_on_is_refused_with_what_to_write_instead() {
    assert_eq!(listen_address("[::]:0"), Ok("[::]:0".parse().unwrap()));
    for (text, expected) in [
        ("7000", "write 0.0.0.0:7000, or [::]:7000"),
        (":7000", "write 0.0.0.0:7000, or [::]:7000"),
        ("*:7000", "write 0.0.0.0:7000, or [::]:7000"),
        ("0.0.0.0", "write 0.0.0.0:7000"),
        ("::", "write [::]:7000"),
        ("localhost:7000", "localhost is not an IP address of this machine"),
        ("localhost", "the port is missing"),
        ("http://0.0.0.0:7000", "this is a URL: write HOST:PORT alone, 0.0.0.0:7000"),
        ("0.0.0.0:70000", "70000 is not a port"),
    ] {
        let error = listen_address(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert_eq!(bind_address("[::1]"), Ok("::1".parse().unwrap()));
    assert!(bind_address("0.0.0.0:80").unwrap_err().contains("write 0.0.0.0"));
    assert!(bind_address("eth0").unwrap_err().contains("IP address of this machine"));
}
