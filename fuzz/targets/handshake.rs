//! Fuzzes the handshake: a peer without the token is never accepted, a peer with the token always is, and a handshake
//! in which a bit is corrupted in transit fails.
#![no_main]

use std::cell::Cell;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    Frame, Hello, HelloMode, Welcome,
    binary::{MAX_FRAME, VERSION, decode, encode},
    handshake::{ClientHandshake, ClientStep, ServerHandshake, ServerStep, Token},
};

fuzz_target!(|data: &[u8]| {
    let [mode, a, b, bytes @ ..] = data else { return };
    let mut buffer = BytesMut::from(bytes);
    let mut frames = std::iter::from_fn(|| decode(&mut buffer, MAX_FRAME).ok().flatten());
    match mode % 3 {
        0 => proxy_without_token(frames),
        1 => server_without_token(frames),
        _ => {
            let hello = frames.find_map(|frame| if let Frame::Hello(hello) = frame { Some(hello) } else { None });
            let welcome =
                frames.find_map(|frame| if let Frame::Welcome(welcome) = frame { Some(welcome) } else { None });
            if let (Some(hello), Some(welcome)) = (hello, welcome) {
                one_corrupted_bit(hello, welcome, *a, *b);
            }
        }
    }
});

/// Feeds fuzzed frames to a server: none of them may authenticate.
fn proxy_without_token(frames: impl Iterator<Item = Frame>) {
    let mut server = ServerHandshake::new(Token::new("secret"), [7; 32]);
    for frame in frames {
        match server.on_frame(frame) {
            Ok(ServerStep::Send(next, _)) => {
                server = if next.link().is_some_and(|(link, _)| link[0] == 1) { next.with_secret([8; 32]) } else { next };
            }
            Ok(ServerStep::Verified(_)) => panic!("a proxy without the token was accepted"),
            Err(_) => return,
        }
    }
}

/// Feeds fuzzed frames to a proxy: none of them may prove that the server holds the token.
fn server_without_token(frames: impl Iterator<Item = Frame>) {
    let hello = Hello {
        version: VERSION,
        mode: HelloMode::New,
        features: 0,
        nonce: [1; 16],
        link: [0; 16],
        epoch: 0,
        name: String::new(),
    };
    let (mut client, _) = ClientHandshake::start(Token::new("secret"), hello);
    for frame in frames {
        match client.on_frame(frame) {
            Ok(ClientStep::Send(next, _)) => client = *next,
            Ok(ClientStep::Done(_)) => panic!("a server without the token was accepted"),
            Err(_) => return,
        }
    }
}

/// Runs a handshake of two peers with the same token. Corrupts one bit of the frame with the number `which` (there are
/// four frames; the number 4 corrupts none).
fn one_corrupted_bit(hello: Hello, welcome: Welcome, which: u8, bit: u8) {
    let hello = Hello { version: VERSION, ..hello };
    let welcome = Welcome { features: welcome.features & hello.features, ..welcome };
    let (which, is_new) = (which % 5, hello.mode == HelloMode::New);
    let mut sent = 0;
    let is_corrupted = Cell::new(false);
    let mut transmit = |frame: Frame| {
        let mut bytes = BytesMut::new();
        encode(&frame, &mut bytes);
        if sent == which {
            let bit = usize::from(bit) * 7 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        sent += 1;
        let received = decode(&mut bytes, MAX_FRAME).ok().flatten()?;
        is_corrupted.set(is_corrupted.get() | (received != frame));
        Some(received)
    };
    let (client, hello) = ClientHandshake::start(Token::new("secret"), hello);
    // A new link has no resume secret yet; the server ignores the one that it is given below.
    let client = if is_new { client } else { client.with_secret([9; 32]) };
    let Some(hello) = transmit(hello) else { return };
    let server = ServerHandshake::new(Token::new("secret"), [7; 32]);
    let Ok(ServerStep::Send(server, challenge)) = server.on_frame(hello) else { return };
    let server = server.with_secret([9; 32]);
    let Some(challenge) = transmit(challenge) else { return };
    let Ok(ClientStep::Send(client, proof)) = client.on_frame(challenge) else { return };
    let Some(proof) = transmit(proof) else { return };
    let Ok(ServerStep::Verified(verified)) = server.on_frame(proof) else {
        assert!(is_corrupted.get(), "a proxy with the token was refused");
        return;
    };
    assert!(!is_corrupted.get(), "a corrupted handshake was accepted");
    let Some(welcome) = transmit(verified.welcome(welcome)) else { return };
    match client.on_frame(welcome) {
        Ok(ClientStep::Done(_)) => assert!(!is_corrupted.get(), "a corrupted handshake was accepted"),
        _ => assert!(is_corrupted.get(), "a server with the token was refused"),
    }
}

