//! TLS, SSH and other TCP protocols.

use super::{
    GET_A, GET_B,
    Sender::{Target, User},
    assert_conversation,
};

/// The first flight of `openssl s_client` of OpenSSL 3.0, with and without `-servername app.example`.
const TLS_12: &str = "1603010097010000930303bbe8b31df8260ae7b293180366217204ef4222a424f4e8d617f41afe52e404180000\
    04c02f00ff0100006600000010000e00000b6170702e6578616d706c65000b000403000102000a000c000a001d0017001e0019001800\
    2300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205\
    020602";
const TLS_12_NAMELESS: &str = "16030100830100007f03037acf91f3a4b165f498b2536b5acd3c2554926fefba8d6215d983fff939d135890\
    00004c02f00ff01000052000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040\
    305030603080708080809080a080b080408050806040105010601030303010302040205020602";
pub(in crate::inspect) const TLS_13: &str = "16030100de010000da0303fef225bdbc08b20e4a672b04cb51fe5bf67ca738e5e119b0718b26c3eaff70e8204b7b06e6\
    3964fda4b9dbdbd1441bb7abceeba6eeb6955a7c073b0f3e5fcd0e92000813021303130100ff0100008900000010000e00000b617070\
    2e6578616d706c65000b000403000102000a00040002001d002300000016000000170000000d001e001c040305030603080708080809\
    080a080b080408050806040105010601002b0003020304002d00020101003300260024001d002009513308221960da0414767a08befe\
    dde132de101826d39340e80559f6f6c45f";
const TLS_13_NAMELESS: &str = "16030100ca010000c60303ba9e3718e2404ec7784ba19dc1fd000a6532342511c4e11a1bdb3f3eacf47bcf2\
    02c172162db086d7b56be6c1449ba12b765d4646b917798337541ebc6be36ffd2000813021303130100ff01000075000b00040300010\
    2000a00040002001d002300000016000000170000000d001e001c040305030603080708080809080a080b08040805080604010501060\
    1002b0003020304002d00020101003300260024001d00200d81bcc53267ecd753fb8ebc6f25bcfb1c499c4103b7f759bf6b720278b70\
    607";

/// Decodes hexadecimal digits.
pub(in crate::inspect) fn hex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Splits a ClientHello into TLS records of at most `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[0x16, 3, 1, 0, part.len() as u8], part].concat();
    hello[5..].chunks(size).flat_map(record).collect()
}

#[test]
fn tls_shows_the_server_name() {
    for (hello, shows) in [
        (TLS_12, "TLS app.example"),
        (TLS_12_NAMELESS, "TLS"),
        (TLS_13, "TLS app.example"),
        (TLS_13_NAMELESS, "TLS"),
    ] {
        let hello = hex(hello);
        assert_conversation(
            "one record",
            &[(User, &hello, shows), (Target, b"HTTP/1.1 200 OK\r\n\r\n", shows)],
            true,
        );
        for size in [1, 50, 100, 127] {
            assert_conversation("several records", &[(User, &in_records(&hello, size), shows)], true);
        }
        let early = [&hello[..], &[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3, 0, 2, 9, 9]].concat();
        assert_conversation("early data", &[(User, &early, shows)], true);
    }
}

#[test]
fn incomplete_and_malformed_client_hellos() {
    let hello = hex(TLS_13);
    assert_conversation("cut before its name", &[(User, &hello[..90], "TLS")], false);
    assert_conversation("cut behind its name", &[(User, &hello[..140], "TLS app.example")], true);
    let cut = [&hello[..90], &[0; 20]].concat();
    assert_conversation("nonsense within", &[(User, &cut, "TLS")], false);
    assert_conversation(
        "too long",
        &[(User, &[&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc], &[0; 9000][..]].concat(), "TLS")],
        true,
    );
    assert_conversation("no ClientHello", &[(User, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "TCP")], false);
}

#[test]
fn ssh_is_detected_on_either_side() {
    let (client, server) = (b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(), b"SSH-2.0-dropbear\r\n".as_slice());
    let shows = "SSH SSH-2.0-OpenSSH_9.6";
    assert_conversation("the user first", &[(User, client, shows), (Target, server, shows)], true);
    let shows = "SSH SSH-2.0-dropbear";
    assert_conversation("the target first", &[(Target, server, shows), (User, client, shows)], true);
    assert_conversation(
        "a banner first",
        &[(Target, b"Hello!\r\n", "TCP"), (User, b"SSH-2.0-x", "SSH")],
        false,
    );
    assert_conversation(
        "no line",
        &[(Target, &[b"SSH-", &[b'x'; 400][..]].concat(), &format!("SSH SSH-{}", "x".repeat(76)))],
        true,
    );
}

#[test]
fn everything_else_is_tcp() {
    assert_conversation(
        "SMTP",
        &[
            (Target, b"220 mail.example ESMTP\r\n", "TCP"),
            (User, b"EHLO me.example\r\n", "TCP"),
            (Target, b"250 OK\r\n", "TCP"),
        ],
        true,
    );
    assert_conversation(
        "HTTP/2",
        &[(User, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04", "TCP"), (Target, b"\0\0", "TCP")],
        true,
    );
    assert_conversation("HTTP/0.9", &[(User, b"GET /\r\n", "TCP"), (Target, b"<html>", "TCP")], true);
    assert_conversation(
        "Redis",
        &[(User, b"*1\r\n$4\r\nPING\r\n", "TCP"), (Target, b"+PONG\r\n", "TCP")],
        true,
    );
    assert_conversation(
        "PostgreSQL",
        &[(User, b"\0\0\0\x08\x04\xd2\x16\x2f", "TCP"), (Target, b"N", "TCP")],
        true,
    );
    assert_conversation("a word", &[(User, b"PING\n", "TCP"), (Target, b"PONG\n", "TCP")], true);
    assert_conversation("no word", &[(User, &[b'a'; 30], "TCP"), (Target, b"a", "TCP")], true);
    assert_conversation("too little", &[(User, b"GE", "-")], false);
    // The user then sends HTTP, but the target's responses cannot be matched to requests.
    assert_conversation(
        "a banner, then HTTP",
        &[(Target, b"hi\n", "TCP"), (User, GET_A, "GET /a"), (User, GET_B, "GET /a")],
        true,
    );
}
