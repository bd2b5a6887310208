//! What is said of a server that cannot start.

use super::*;

#[test]
fn an_address_that_cannot_be_used_is_named_with_its_option_and_a_remedy() {
    let error = |kind| io::Error::from(kind);
    let addr: SocketAddr = "192.0.2.1:443".parse().unwrap();
    let listen = |kind| BindError::Listen { addr, error: error(kind) }.to_string();
    for (kind, expected) in [
        (io::ErrorKind::AddrInUse, "`ss -ltnp sport = :443` shows it"),
        (io::ErrorKind::AddrInUse, "--reuse-port"),
        (io::ErrorKind::AddrNotAvailable, "this machine does not have that address"),
        (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
        (io::ErrorKind::OutOfMemory, "cannot listen for proxies on 192.0.2.1:443 (option --listen)"),
    ] {
        let text = listen(kind);
        assert!(text.contains(expected), "{text}");
    }
    // Reserved for documentation (RFC 5737): no machine has it.
    let config = ServerConfig { bind: addr.ip(), ..ServerConfig::default() };
    let text = check_public_ports(&config).unwrap_err().to_string();
    assert!(text.contains("public ports on 192.0.2.1:0 (options --bind and --ports)"), "{text}");
    assert!(text.contains("this machine does not have that address"), "{text}");
    check_public_ports(&ServerConfig::default()).unwrap();
}
