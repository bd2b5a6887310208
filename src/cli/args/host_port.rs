//! Addresses on the command line. What can never be connected to or listened on is refused here, with what to write
//! instead, rather than retried for ever.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

/// The longest host name of DNS in characters (RFC 1035).
const MAX_NAME_CHARS: usize = 253;
/// The longest label of a host name in characters (RFC 1035).
const MAX_LABEL_CHARS: usize = 63;

/// Parses a host name or address with a port above 0, to connect to.
///
/// # Errors
/// What is wrong with the text, and what to write instead.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    let (host, port) = split(text)?;
    if host.is_empty() {
        return Err(format!("the host is missing: write 127.0.0.1:{port} for this machine"));
    }
    check_host(host)?;
    if port == 0 {
        return Err("nothing can be connected to at port 0: write the port of the service".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses an IP address with a port, to listen on. Port 0 is any free one.
///
/// # Errors
/// What is wrong with the text, and what to write instead.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.parse::<u16>() {
        return Err(format!("the address is missing: write 0.0.0.0:{port}, or [::]:{port} for IPv6 too"));
    }
    if let Ok(address) = without_brackets(text).parse::<IpAddr>() {
        return Err(format!("the port is missing: write {}", SocketAddr::new(address, 7000)));
    }
    let (host, port) = split(text)?;
    Err(match host {
        "" | "*" => format!("the address is missing: write 0.0.0.0:{port}, or [::]:{port} for IPv6 too"),
        host => format!(
            "{host} is not an IP address of this machine, such as 0.0.0.0 for all: write 0.0.0.0:{port}"
        ),
    })
}

/// Parses an IP address to open ports on.
///
/// # Errors
/// What is wrong with the text, and what to write instead.
pub(super) fn bind_address(text: &str) -> Result<IpAddr, String> {
    without_brackets(text).parse().map_err(|_| match text.parse::<SocketAddr>() {
        Ok(address) => format!("the port does not belong here: write {}", address.ip()),
        Err(_) => {
            "expected an IP address of this machine: 0.0.0.0 for all, or such as 127.0.0.1 or ::".to_owned()
        }
    })
}

/// Returns an address without the brackets of IPv6.
fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Splits `HOST:PORT`; the brackets of an IPv6 address stay in the host.
fn split(text: &str) -> Result<(&str, u16), String> {
    let quoted = text.escape_debug();
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let example =
            if host_port(authority).is_ok() { authority.to_owned() } else { format!("{authority}:PORT") };
        return Err(format!("this is a URL: write HOST:PORT alone, {}", example.escape_debug()));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address needs brackets before the port: [{text}]:PORT"));
    }
    if let Ok(port) = text.parse::<u16>() {
        return Ok(("", port));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return Err(format!(
            "the port is missing: write {quoted}:PORT, such as example.org:7000 or 127.0.0.1:80"
        ));
    };
    if !host.starts_with('[') && host.contains(':') {
        return Err(match host.parse::<Ipv6Addr>() {
            Ok(_) => {
                format!("an IPv6 address needs brackets before the port: [{host}]:{}", port.escape_debug())
            }
            Err(_) => {
                format!("{quoted} has more than one colon: expected HOST:PORT, such as example.org:7000")
            }
        });
    }
    match port.parse() {
        Ok(number) if !port.starts_with('+') => Ok((host, number)),
        _ => Err(format!(
            "{} is not a port: expected a number of 1 to 65535 after the colon",
            port.escape_debug()
        )),
    }
}

/// Checks that `host` is an IPv4 address, an IPv6 address in brackets, or a name that DNS or `/etc/hosts` can have.
fn check_host(host: &str) -> Result<(), String> {
    let wrong = |why: &dyn Display| Err(format!("{} is no host name: {why}", host.escape_debug()));
    if host.starts_with('[') {
        // With a port, because only a socket address may have a scope, and only as a number.
        return match format!("{host}:1").parse::<SocketAddrV6>() {
            Ok(_) => Ok(()),
            Err(_) if host.contains('%') => {
                wrong(&"the scope is the number of the interface (`ip link` shows it), such as [fe80::1%2]")
            }
            Err(_) => wrong(&"what is in brackets has to be an IPv6 address"),
        };
    }
    if host.contains(['/', '@']) {
        return wrong(&"write HOST:PORT alone, without a path and a user name");
    }
    if !host.is_ascii() {
        return wrong(&"write it in the form of DNS, which begins with xn-- (Punycode)");
    }
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(c) = host.chars().find(|c| !is_valid(*c)) {
        return wrong(&format!(
            "it contains «{}»; letters, digits, '-' and '.' are possible",
            c.escape_debug()
        ));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > MAX_NAME_CHARS {
        return wrong(&format!("it is longer than {MAX_NAME_CHARS} characters"));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return wrong(&"it has an empty part between two dots");
        }
        if label.len() > MAX_LABEL_CHARS {
            return wrong(&format!("a part between two dots is longer than {MAX_LABEL_CHARS} characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return wrong(&"a part must not begin or end with '-'");
        }
    }
    // A name whose last part is a number is taken for an IPv4 address by getaddrinfo(3), also a short form such as
    // 127.1.
    let parts: Vec<_> = name.split('.').map(str::parse::<u64>).collect();
    match parts.as_slice() {
        [.., Ok(_)] if !is_ipv4(&parts) => {
            wrong(&"an IPv4 address has four numbers of 0 to 255, such as 192.0.2.1")
        }
        _ => Ok(()),
    }
}

/// Returns whether these are the parts of an IPv4 address as inet_aton(3) takes it: up to four numbers of a byte each,
/// of which the last one fills the rest of the address.
fn is_ipv4<E>(parts: &[Result<u64, E>]) -> bool {
    let Some((last, first)) = parts.split_last() else { return false };
    let is_byte = |part: &Result<u64, E>| part.as_ref().is_ok_and(|byte| *byte < 256);
    let fits = |part: &Result<u64, E>| part.as_ref().is_ok_and(|rest| rest >> (8 * (4 - first.len())) == 0);
    first.len() < 4 && first.iter().all(is_byte) && fits(last)
}

#[cfg(test)]
mod tests;
