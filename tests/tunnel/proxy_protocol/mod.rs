//! The PROXY protocol: user and public address in the header that a target receives, and those in the header of a load
//! balancer in front of the server.

use std::net::SocketAddr;

use crate::support::{soon, target::LOOPBACK};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use underpass::{
    ids::ProxyProtocolVersion,
    wire::proxy_protocol::{MAX_HEADER, ProxyHeader, decode},
};

mod accepted;
mod programs;
mod to_target;

const VERSIONS: [ProxyProtocolVersion; 2] = [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2];

/// A target that expects a header. Its connections are accepted one after the other.
struct HeaderTarget {
    listener: TcpListener,
}

impl HeaderTarget {
    async fn new() -> Self {
        Self { listener: TcpListener::bind(LOOPBACK).await.unwrap() }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Accepts the next connection and reads its header. Returns it with the connection, of which nothing more was
    /// read.
    async fn accept(&self) -> (ProxyHeader, TcpStream) {
        let (mut socket, _) = soon("a connection to the target", self.listener.accept()).await.unwrap();
        let mut bytes = Vec::new();
        loop {
            assert!(bytes.len() <= MAX_HEADER);
            if let Some((header, len)) = decode(&bytes).unwrap() {
                assert_eq!(len, bytes.len());
                return (header, socket);
            }
            bytes.push(soon("a header", socket.read_u8()).await.unwrap());
        }
    }
}

/// Returns the header of a user's connection.
fn relayed(client: SocketAddr, public: SocketAddr) -> ProxyHeader {
    ProxyHeader::Relayed { client, public }
}
