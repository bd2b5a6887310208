#![allow(clippy::unwrap_used)]

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Ipv4Addr, TcpStream as StdStream},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use proptest::prelude::*;
use rustls::{
    ClientConnection, Connection, ServerConfig, ServerConnection, SupportedCipherSuite, Tls13CipherSuite,
    crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256},
    pki_types::PrivateKeyDer,
    version::TLS13,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{MAX_ENCRYPTED, MAX_RECORD, MAX_RECORD_OF_SMALL_WRITE, TlsSession};
use crate::tls::{ClientTls, ServerTls, tests::transfer};

/// Length of an encrypted record that is longer than its plaintext: header, content type, and tag of AES-GCM.
const OVERHEAD: usize = 5 + 1 + 16;

/// Length of an encrypted KeyUpdate on the wire.
const KEY_UPDATE: usize = OVERHEAD + 5;

/// A session over one end of a TCP connection, and both the other end and its session.
struct Pair {
    near: TlsSession,
    stream: TcpStream,
    far: Connection,
    far_stream: StdStream,
}

impl Pair {
    /// Establishes a session in which the near end is the server, with this setting.
    async fn with(config: Arc<ServerConfig>) -> Self {
        let name = ClientTls::server_name("localhost:1").unwrap();
        let client = ClientTls::accepting_any_certificate().unwrap().config();
        let mut far = Connection::Client(ClientConnection::new(client, name).unwrap());
        let mut near = Connection::Server(ServerConnection::new(config).unwrap());
        while near.wants_write() || far.wants_write() {
            transfer(&mut near, &mut far);
            transfer(&mut far, &mut near);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let far_stream = listener.accept().await.unwrap().0.into_std().unwrap();
        let near = TlsSession::new(near).unwrap();
        assert_eq!(
            near.exporter(),
            far.export_keying_material([0; 32], super::EXPORTER_LABEL, None).unwrap()
        );
        Self { near, stream, far, far_stream }
    }

    async fn new() -> Self {
        Self::with(ServerTls::self_signed().unwrap().config()).await
    }

    /// Has the far end send `bytes`.
    fn far_sends(&mut self, bytes: &[u8]) {
        self.far.writer().write_all(bytes).unwrap();
        self.far_flushes();
    }

    /// Writes what the far end has to send.
    fn far_flushes(&mut self) {
        while self.far.wants_write() {
            // The kernel's buffers hold what the tests send.
            self.far.write_tls(&mut self.far_stream).unwrap();
        }
    }

    /// Returns what the near end receives next, with a buffer of this size.
    async fn receive(&self, size: usize) -> io::Result<Vec<u8>> {
        let mut buf = BytesMut::with_capacity(size);
        loop {
            if !self.near.has_plaintext() {
                self.stream.readable().await.unwrap();
            }
            match self.near.try_read(&self.stream, &mut buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|n| buf[..n].to_vec()),
            }
        }
    }

    /// Writes `bytes` as far as the socket takes them. Returns how many were encrypted.
    fn write(&self, mut bytes: &[u8]) -> usize {
        let mut encrypted = 0;
        while !bytes.is_empty() {
            // In two slices, as a header and its payload.
            let (head, rest) = bytes.split_at(bytes.len().min(20));
            match self.near.try_write(&self.stream, &[IoSlice::new(head), IoSlice::new(rest)]) {
                Ok(n) => {
                    encrypted += n;
                    bytes = &bytes[n..];
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        encrypted
    }

    /// Receives at the far end until it has `bytes` bytes of plaintext, while the near end sends the rest of what it
    /// has encrypted. Returns the plaintext, and the lengths of the records.
    async fn far_receives(&mut self, bytes: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut plaintext, mut wire) = (Vec::new(), Vec::new());
        let mut chunk = vec![0; 64 * 1024];
        while plaintext.len() < bytes {
            if self.near.unsent_bytes() > 0 {
                _ = timeout(Duration::from_millis(1), self.stream.writable()).await;
                _ = self.near.try_write(&self.stream, &[]);
            }
            let n = match self.far_stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result.unwrap(),
            };
            assert_ne!(n, 0);
            wire.extend_from_slice(&chunk[..n]);
            let mut unread = &chunk[..n];
            while !unread.is_empty() {
                self.far.read_tls(&mut unread).unwrap();
                self.far.process_new_packets().unwrap();
                match self.far.reader().read_to_end(&mut plaintext) {
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    Ok(_) => unreachable!("the near end does not close"),
                }
            }
        }
        let mut records = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let length = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            records.push(length);
            rest = &rest[length..];
        }
        (plaintext, records)
    }
}

/// Returns `len` bytes of which no two parts are alike.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes()).take(len).collect()
}

#[tokio::test]
async fn bulk_data_is_in_long_records_and_messages_in_short_ones() {
    let mut pair = Pair::new().await;
    let sent = bytes(100_000);
    assert_eq!(pair.write(&sent), sent.len());
    let (received, records) = pair.far_receives(sent.len()).await;
    assert_eq!(received, sent);
    assert_eq!(records.iter().max(), Some(&(MAX_RECORD + OVERHEAD)));
    let sent = bytes(10_000);
    assert_eq!(pair.write(&sent), sent.len());
    let (received, records) = pair.far_receives(sent.len()).await;
    assert_eq!(received, sent);
    assert_eq!(records.iter().max(), Some(&(MAX_RECORD_OF_SMALL_WRITE + OVERHEAD)));
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_sent_later_and_bounded() {
    let mut pair = Pair::new().await;
    SockRef::from(&pair.stream).set_send_buffer_size(16 * 1024).unwrap();
    let sent = bytes(20_000_000);
    let encrypted = pair.write(&sent);
    assert!(encrypted < sent.len(), "the socket took everything");
    let unsent = pair.near.unsent_bytes();
    assert!(0 < unsent && unsent <= MAX_ENCRYPTED + MAX_ENCRYPTED / 100, "{unsent}");
    let error = pair.near.try_write(&pair.stream, &[IoSlice::new(b"more")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let (received, _) = pair.far_receives(encrypted).await;
    assert!(received == sent[..encrypted]);
    assert_eq!(pair.near.unsent_bytes(), 0);
}

/// The socket does not become readable for what is decrypted already.
#[tokio::test]
async fn decrypted_bytes_that_wait_are_announced() {
    let mut pair = Pair::new().await;
    let sent = bytes(60_000);
    pair.far_sends(&sent);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        received.extend(pair.receive(1000).await.unwrap());
    }
    assert_eq!(received, sent);
    assert!(!pair.near.has_plaintext());
}

#[tokio::test]
async fn an_announced_end_is_one_and_any_other_is_a_truncation() {
    for is_announced in [true, false] {
        let mut pair = Pair::new().await;
        pair.far_sends(b"the last words");
        if is_announced {
            pair.far.send_close_notify();
            pair.far_flushes();
        }
        pair.far_stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = pair.receive(64 * 1024).await.unwrap();
        while received.len() < 14 {
            received.extend(pair.receive(64 * 1024).await.unwrap());
        }
        assert_eq!(received, b"the last words");
        for _ in 0..2 {
            let end = pair.receive(64 * 1024).await;
            match end {
                Ok(end) => assert!(is_announced && end.is_empty()),
                Err(error) => {
                    assert!(!is_announced && error.kind() == io::ErrorKind::UnexpectedEof, "{error}")
                }
            }
        }
    }
}

#[tokio::test]
async fn a_changed_byte_is_an_error_behind_the_data_before_it() {
    let mut pair = Pair::new().await;
    let mut wire = Vec::new();
    for part in [&b"unchanged"[..], b"changed"] {
        pair.far.writer().write_all(part).unwrap();
        pair.far.write_tls(&mut wire).unwrap();
    }
    *wire.last_mut().unwrap() ^= 1;
    pair.far_stream.write_all(&wire).unwrap();
    assert_eq!(pair.receive(64 * 1024).await.unwrap(), b"unchanged");
    let error = pair.receive(64 * 1024).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    // The peer is told with an alert.
    pair.far_stream.set_nonblocking(false).unwrap();
    pair.far.read_tls(&mut pair.far_stream).unwrap();
    let told = pair.far.process_new_packets().unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn the_end_is_announced_to_the_peer() {
    let mut pair = Pair::new().await;
    pair.write(b"bye");
    pair.near.send_close_notify(&pair.stream).unwrap();
    pair.near.send_close_notify(&pair.stream).unwrap();
    drop(pair.stream);
    pair.far_stream.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    while pair.far.read_tls(&mut pair.far_stream).unwrap() > 0 {
        pair.far.process_new_packets().unwrap();
    }
    pair.far.reader().read_to_end(&mut received).unwrap();
    assert_eq!(received, b"bye");
}

/// AES-GCM protects 2^24 records with one key; here it is 64. rustls replaces the key before that by itself.
#[tokio::test]
async fn the_keys_are_replaced_before_the_limit_of_the_cipher() {
    const LIMIT: usize = 64;
    let original = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let suite: &'static Tls13CipherSuite = Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: original.common.suite,
            hash_provider: original.common.hash_provider,
            confidentiality_limit: LIMIT as u64,
        },
        hkdf_provider: original.hkdf_provider,
        aead_alg: original.aead_alg,
        quic: None,
    }));
    let provider = CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(suite)],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let certificate = rcgen::generate_simple_self_signed(["underpass".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let mut pair = Pair::with(config.into()).await;
    let sent = bytes(200_000);
    let (mut records, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        assert_eq!(pair.write(&sent), sent.len());
        let (received, more) = pair.far_receives(sent.len()).await;
        assert!(received == sent);
        records.extend(more);
        // The other direction continues meanwhile.
        pair.far_sends(b"an answer");
        answers.extend(pair.receive(64 * 1024).await.unwrap());
    }
    assert_eq!(answers, b"an answer".repeat(40));
    let longest = records.split(|length| *length == KEY_UPDATE).map(<[_]>::len).max().unwrap();
    assert!(longest < LIMIT, "{longest} records with one key");
    assert!(records.len() > 7 * LIMIT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the lengths of writes and reads, the bytes arrive in order, in both directions at the same time.
    #[test]
    fn bytes_arrive_in_order(
        writes in prop::collection::vec(1..40_000usize, 1..20),
        read_size in 1..300_000usize,
        send_buffer in 4_000..100_000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new().await;
            SockRef::from(&pair.stream).set_send_buffer_size(send_buffer).unwrap();
            let sent = bytes(writes.iter().sum());
            let mut rest = &sent[..];
            let mut arrived = Vec::new();
            for length in writes {
                let part = &rest[..length];
                pair.far_sends(part);
                let mut back = Vec::new();
                let mut written = 0;
                while back.len() < length || written < length {
                    let encrypted = pair.write(&part[written..]);
                    written += encrypted;
                    arrived.extend(pair.far_receives(encrypted).await.0);
                    if back.len() < length {
                        back.extend(pair.receive(read_size).await.unwrap());
                    }
                }
                assert!(back == part);
                rest = &rest[length..];
            }
            assert!(arrived == sent);
        });
    }
}
