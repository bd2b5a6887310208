//! Programs of versions that cannot work together: each refusal is one sentence that names both versions, and ends with
//! status 3.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    thread,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bytes_of_hex,
    support::{
        process::{Process, TOKEN},
        soon, target,
    },
};

/// The handshake that was recorded of 0.1: the first line is PREFACE and HELLO.
const HANDSHAKE: &str = include_str!("0.1/handshake.hex");
/// The greeting of a server of a later version with the same control protocol.
const GREETING: &str =
    r#"{"underpass":"0.9.0","protocol":1,"boot":"00112233445566aa","role":"server","name":"far"}"#;

/// Returns what a proxy of another protocol version sends first: the layout up to the version is the same in all.
fn hello_of_version(version: u16) -> Vec<u8> {
    let digits = HANDSHAKE.lines().find_map(|line| line.strip_prefix(">HELLO ")).unwrap();
    let mut bytes: Vec<u8> = bytes_of_hex(digits).collect();
    let version_at = underpass::wire::binary::PREFACE.len() + 8;
    assert_eq!(bytes[version_at..version_at + 2], [0, 2]);
    bytes[version_at..version_at + 2].copy_from_slice(&version.to_be_bytes());
    bytes
}

/// Sends the HELLO of another version without TLS, and returns the answer as text and what the server has logged.
async fn refused(options: &[&str], version: u16) -> (Vec<u8>, String) {
    let (mut server, addr) = Process::server(TOKEN, options).await;
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(&hello_of_version(version)).await.unwrap();
    let mut answer = Vec::new();
    soon("the end", socket.read_to_end(&mut answer)).await.unwrap();
    (answer, server.line("to the tunnel port refused: ").await)
}

/// A proxy of version 1 understands the sentence, and none of the codes; that for TLS has it dial again for ever.
#[tokio::test]
async fn a_proxy_of_another_version_is_refused_with_both_versions_also_where_it_lacks_tls() {
    for options in [&["--plain"][..], &[]] {
        let (answer, line) = refused(options, 1).await;
        let sentence = "protocol version 1 is not supported, the server speaks version 2";
        assert!(String::from_utf8_lossy(&answer).contains(sentence), "{answer:?}");
        assert!(line.ends_with(sentence), "{line}");
        let (answer, line) = refused(options, 3).await;
        // REFUSED with a code and the version.
        assert_eq!(answer[answer.len() - 4..], [0, 2, 0, 2], "{answer:?}");
        assert!(line.ends_with("protocol version 3 is not supported, the server speaks version 2"), "{line}");
    }
}

/// What a server of protocol version 1 answers, and one of version 3.
#[tokio::test]
async fn a_proxy_ends_where_the_server_speaks_another_version() {
    let refusal_of_1 = b"\x24\x00\x00\x00\x00\x00\x00\x30\x05ERRORversion 2 is not spoken here, version 1 is";
    let refusal_of_3 = b"\x05\x00\x00\x00\x00\x00\x00\x04\x00\x02\x00\x03";
    for (refusal, sentence) in [
        (
            &refusal_of_1[..],
            "the peer does not support protocol version 2: version 2 is not spoken here, version 1 is",
        ),
        (refusal_of_3, "protocol version 2 is not supported, the peer speaks version 3"),
    ] {
        let server = target::serve_with(move |mut socket| async move {
            socket.read_exact(&mut [0; 16]).await?;
            socket.write_all(refusal).await?;
            tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
            Ok(())
        })
        .await;
        let mut proxy = Process::proxy(server.addr, "127.0.0.1:9", TOKEN, &["--plain"]);
        assert_eq!(proxy.exit().await.code(), Some(3), "{}", proxy.output());
        assert!(proxy.stderr().contains(sentence), "{}", proxy.stderr());
    }
}

/// Serves a control socket that greets with the first line, and answers each request with the second one.
fn control_socket(name: &str, greeting: &'static str, answer: &'static str) -> String {
    let path = format!("{}/{name}-{}.sock", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    // It ends with the process.
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let mut requests = BufReader::new(socket.try_clone().unwrap()).lines();
            _ = writeln!(&socket, "{greeting}");
            while let Some(Ok(_)) = requests.next() {
                _ = writeln!(&socket, "{answer}");
            }
        }
    });
    path
}

/// Runs a command on a control socket. Returns its exit status and what it says.
async fn operate(command: &[&str], path: &str) -> (Option<i32>, String) {
    let mut process = Process::underpass(&[command, &["--control", path]].concat());
    (process.exit().await.code(), process.stderr())
}

/// The rest of the greeting may be anything in such a version.
#[tokio::test]
async fn a_newer_control_protocol_is_refused_with_both_versions() {
    let path = control_socket("newer", r#"{"underpass":"0.9.0","protocol":2,"role":{"kind":"relay"}}"#, "{}");
    let sentence = "underpass: underpass 0.9.0 speaks version 2 of the control protocol, and this underpass 0.1.0 only \
                    version 1: use the program of that version\n";
    assert_eq!(operate(&["ps"], &path).await, (Some(3), sentence.to_owned()));
    assert_eq!(operate(&["attach"], &path).await, (Some(3), sentence.to_owned()));
}

#[tokio::test]
async fn an_answer_that_is_not_understood_names_both_versions() {
    let answer =
        r#"{"id":1,"ok":{"streams":[{"key":7}],"open":1,"matching":1},"seq":1,"snapshot":{"streams":7}}"#;
    let path = control_socket("answer", GREETING, answer);
    for command in ["ps", "attach"] {
        let (status, text) = operate(&[command], &path).await;
        assert_eq!(status, Some(3), "{command}: {text}");
        let begin =
            "underpass: underpass 0.9.0 has given an answer that this underpass 0.1.0 does not understand (";
        assert!(text.starts_with(begin), "{command}: {text}");
        assert!(text.ends_with("): use the program of that version\n"), "{command}: {text}");
    }
}

/// A proxy that cannot be watched is not attached to: the cockpit would stay empty, and dial it again for ever.
#[tokio::test]
async fn a_cockpit_that_gets_no_state_says_why_and_does_not_open() {
    let answer =
        r#"{"id":1,"error":{"code":"unsupported","message":"a proxy cannot be watched: watch the server"}}"#;
    let path = control_socket("refused", GREETING, answer);
    let expected = "underpass: a proxy cannot be watched: watch the server\n".to_owned();
    assert_eq!(operate(&["attach"], &path).await, (Some(1), expected));
}
