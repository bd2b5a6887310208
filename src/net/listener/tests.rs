//! Unit tests of the socket options that accepted connections have.

use std::{net::Ipv4Addr, time::Duration};

use super::*;

#[tokio::test]
async fn accepted_connections_inherit_the_socket_options() {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let plain = Listener::bind(any, false).unwrap();
    let resetting = Listener::bind_with_reset_on_close(any, false).unwrap();
    for (listener, linger) in [(plain, None), (resetting, Some(Duration::ZERO))] {
        let _user = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.linger().unwrap(), linger);
        assert_eq!(stream.read_timeout().unwrap(), None);
        assert_eq!(listener.try_accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
