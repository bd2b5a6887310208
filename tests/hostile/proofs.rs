//! Authentication with proofs that are wrong, replayed, reflected, of another link, or missing.

use tokio::{io::AsyncWriteExt, net::TcpStream};
use underpass::{
    telemetry::Snapshot,
    wire::{
        Frame, Hello, HelloMode, RefusalCode,
        binary::VERSION,
        handshake::{ClientHandshake, ClientStep, HandshakeError, Token},
    },
};

use crate::{
    Server, after_preface,
    support::{
        LONG,
        binary::{BinaryChannel, bytes, hello},
        soon,
    },
};

#[tokio::test]
async fn failed_authentication_reveals_nothing() {
    let server = Server::start().await;
    let (addr, token) = (server.tunnel.addr, &server.tunnel.token);
    let refused = |code| Some(HandshakeError::Refused { code, version: VERSION });
    let (_first, welcome, _) = BinaryChannel::serving(addr, token, 0).await;
    let secret = welcome.resume_secret.unwrap();
    let join = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
    let other_link = Hello { link: [9; 16], ..join.clone() };
    for (what, token, hello, secret, expected) in [
        ("another token", &Token::new("guess"), hello(), None, refused(RefusalCode::WrongToken)),
        ("an empty token", &Token::new(""), hello(), None, refused(RefusalCode::WrongToken)),
        (
            "another token, for a link that is there",
            &Token::new("guess"),
            join.clone(),
            Some(secret),
            refused(RefusalCode::WrongToken),
        ),
        ("another secret", token, join.clone(), Some([1; 32]), refused(RefusalCode::WrongToken)),
        ("no secret", token, join.clone(), None, refused(RefusalCode::WrongToken)),
        ("another link", token, other_link.clone(), Some(secret), refused(RefusalCode::UnknownLink)),
        (
            "resuming another link",
            token,
            Hello { mode: HelloMode::Resume, ..other_link },
            Some(secret),
            refused(RefusalCode::UnknownLink),
        ),
        ("all that it takes", token, join, Some(secret), None),
    ] {
        let got = BinaryChannel::greeted(addr, token, hello, secret).await.err();
        assert_eq!(got, expected, "{what}");
    }
    server.end().await;
}

/// The recorded proof of one handshake is refused in another.
#[tokio::test]
async fn a_replayed_proof_is_refused() {
    let server = Server::start().await;
    let (client, first) = ClientHandshake::start(server.tunnel.token.clone(), hello());
    let mut honest = BinaryChannel::connect(server.tunnel.addr).await;
    honest.send_raw(&after_preface(bytes([first]))).await;
    let challenge = honest.hear().await.unwrap();
    let ClientStep::Send(_, proof) = client.on_frame(challenge).unwrap() else { panic!() };
    honest.send([proof.clone()]).await;
    assert!(matches!(honest.hear().await, Some(Frame::Welcome(_))));

    let mut thief = BinaryChannel::connect(server.tunnel.addr).await;
    let stranger = thief.socket.local_addr().unwrap();
    thief.send_raw(&after_preface(bytes([Frame::Hello(hello())]))).await;
    thief.hear().await.unwrap();
    thief.send([proof]).await;
    assert_eq!(thief.rest().await, [HandshakeError::WrongToken.refusal()]);
    assert_eq!(server.rejection_reason("the thief", stranger).await, "wrong token");
    drop(honest);
    server.end().await;
}

/// The server's own proof is refused as a proof of the client, in its own handshake and in the next.
#[tokio::test]
async fn a_reflected_proof_is_refused() {
    let server = Server::start().await;
    let (_honest, welcome) =
        BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello(), None).await.unwrap();
    for (what, reflects) in [("the server's proof", welcome.mac), ("the server's nonce", [0; 32])] {
        let mut thief = BinaryChannel::connect(server.tunnel.addr).await;
        thief.send_raw(&after_preface(bytes([Frame::Hello(hello())]))).await;
        let Some(Frame::Challenge { nonce }) = thief.hear().await else { panic!("{what}") };
        let mac = if reflects == [0; 32] { nonce } else { reflects };
        thief.send([Frame::Proof { mac }]).await;
        assert_eq!(thief.rest().await, [HandshakeError::WrongToken.refusal()], "{what}");
    }
    server.end().await;
}

/// The secret of an old link resumes no current link, and neither does a link's ID alone.
#[tokio::test]
async fn the_secret_of_another_link_is_refused() {
    let server = Server::start().await;
    let (addr, token) = (server.tunnel.addr, &server.tunnel.token);
    let (past, stolen, _) = BinaryChannel::serving(addr, token, 0).await;
    let (_today, other, _) = BinaryChannel::serving(addr, token, 0).await;
    let peer = past.socket.local_addr().unwrap();
    drop(past);
    server.disconnect_reason("the link of the past", peer).await;
    let gone = |snapshot: &Snapshot| snapshot.proxies.len() == 2;
    server.tunnel.until("its end", gone).await;
    for (what, link, expected) in [
        ("its own link, which is gone", stolen.link, HandshakeError::UnknownLink),
        ("another's link", other.link, HandshakeError::WrongToken),
    ] {
        for mode in [HelloMode::Join, HelloMode::Resume] {
            let hello = Hello { mode, link, ..hello() };
            let got = BinaryChannel::greeted(addr, token, hello, stolen.resume_secret).await.err();
            let refused = expected.refusal();
            let Frame::Refused { code, version } = refused else { panic!() };
            assert_eq!(got, Some(HandshakeError::Refused { code, version }), "{what}, {mode:?}");
        }
    }
    server.end().await;
}

/// A resumption ticket is valid once, with the token, for its own link. Attempts with other tickets do not affect that
/// link.
#[tokio::test]
async fn a_link_resumes_with_its_latest_ticket_only() {
    let server = Server::with(|config| config.grace_period = LONG).await;
    let (addr, token) = (server.tunnel.addr, &server.tunnel.token);
    let (first, welcome, public) = BinaryChannel::serving(addr, token, 0).await;
    let (link, old) = (welcome.link, welcome.resume_secret);
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"hello").await.unwrap();
    let mut first = first;
    let open = first.opened().await;
    drop(first);
    let waits = |snapshot: &Snapshot| snapshot.proxies.iter().any(|proxy| proxy.grace_remaining.is_some());
    server.tunnel.until("the link waits", waits).await;
    let resume = |epoch| Hello { mode: HelloMode::Resume, link, epoch, ..hello() };
    let refused = |code| Some(HandshakeError::Refused { code, version: VERSION });

    let thief = Token::new("guess");
    for (what, token, hello, secret, expected) in [
        ("a wrong ticket", token, resume(0), Some([1; 32]), refused(RefusalCode::WrongToken)),
        ("no ticket", token, resume(0), None, refused(RefusalCode::WrongToken)),
        ("a stolen ticket without the token", &thief, resume(0), old, refused(RefusalCode::WrongToken)),
        ("one of an epoch to come", token, resume(1), old, refused(RefusalCode::UnknownLink)),
    ] {
        assert_eq!(BinaryChannel::greeted(addr, token, hello, secret).await.err(), expected, "{what}");
    }

    // A client that disconnects before the response is confirmed has not used the ticket up.
    drop(BinaryChannel::greeted(addr, token, resume(0), old).await.unwrap());
    let (mut back, welcome) = BinaryChannel::greeted(addr, token, resume(0), old).await.unwrap();
    assert_eq!(welcome.epoch, 1);
    let new = welcome.resume_secret;
    let mut said = back.settle().await;
    // The stream still exists, with all of its bytes.
    let hello = |frame: &Frame| matches!(frame, Frame::Data { stream, offset: 0, payload, .. } if *stream == open.stream && payload == "hello");
    soon("what the user had sent", async {
        while !said.iter().any(hello) {
            said.push(back.hear_other().await);
        }
    })
    .await;
    let got = back.during(BinaryChannel::greeted(addr, token, resume(0), old)).await.err();
    assert_eq!(got, refused(RefusalCode::UnknownLink), "an old ticket");
    let got = back.during(BinaryChannel::greeted(addr, token, resume(1), old)).await.err();
    assert_eq!(got, refused(RefusalCode::WrongToken), "an old ticket under the new epoch");

    // A second client with the latest ticket takes the link over, and the server closes the previous channel.
    let (mut next, _) = BinaryChannel::greeted(addr, token, resume(1), new).await.unwrap();
    next.settle().await;
    back.rest().await;
    drop(user);
    drop(next);
    server.tunnel.until("its end", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}
