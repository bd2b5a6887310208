//! Who does not know the token gets nowhere, whatever it says; who does gets in, whatever it is called; and no bit may
//! change on the way between two who do.
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
        0 => strangers(frames),
        1 => false_servers(frames),
        _ => {
            let hello = frames.find_map(|frame| if let Frame::Hello(hello) = frame { Some(hello) } else { None });
            let welcome =
                frames.find_map(|frame| if let Frame::Welcome(welcome) = frame { Some(welcome) } else { None });
            if let (Some(hello), Some(welcome)) = (hello, welcome) {
                honest(hello, welcome, *a, *b);
            }
        }
    }
});

fn strangers(frames: impl Iterator<Item = Frame>) {
    let mut server = ServerHandshake::new(Token::new("secret"), [7; 32]);
    for frame in frames {
        match server.on_frame(frame) {
            Ok(ServerStep::Send(next, _)) => {
                server = if next.link().is_some_and(|(link, _)| link[0] == 1) { next.with_secret([8; 32]) } else { next };
            }
            Ok(ServerStep::Verified(_)) => panic!("a stranger came in"),
            Err(_) => return,
        }
    }
}

fn false_servers(frames: impl Iterator<Item = Frame>) {
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
            Ok(ClientStep::Done(_)) => panic!("a false server was believed"),
            Err(_) => return,
        }
    }
}

/// The `which`-th of the four frames has its `bit`-th bit changed on the way; of a fifth there is none.
fn honest(hello: Hello, welcome: Welcome, which: u8, bit: u8) {
    let hello = Hello { version: VERSION, ..hello };
    let welcome = Welcome { features: welcome.features & hello.features, ..welcome };
    let (which, new) = (which % 5, hello.mode == HelloMode::New);
    let mut sent = 0;
    let changed = Cell::new(false);
    let mut carry = |frame: Frame| {
        let mut bytes = BytesMut::new();
        encode(&frame, &mut bytes);
        if sent == which {
            let bit = usize::from(bit) * 7 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        sent += 1;
        let arrived = decode(&mut bytes, MAX_FRAME).ok().flatten()?;
        changed.set(changed.get() | (arrived != frame));
        Some(arrived)
    };
    let (client, said) = ClientHandshake::start(Token::new("secret"), hello);
    // A new link has no secret yet; the server knows that whatever it is told.
    let client = if new { client } else { client.with_secret([9; 32]) };
    let Some(said) = carry(said) else { return };
    let server = ServerHandshake::new(Token::new("secret"), [7; 32]);
    let Ok(ServerStep::Send(server, challenge)) = server.on_frame(said) else { return };
    let server = server.with_secret([9; 32]);
    let Some(challenge) = carry(challenge) else { return };
    let Ok(ClientStep::Send(client, proof)) = client.on_frame(challenge) else { return };
    let Some(proof) = carry(proof) else { return };
    let Ok(ServerStep::Verified(verified)) = server.on_frame(proof) else {
        assert!(changed.get(), "an honest proxy was refused");
        return;
    };
    assert!(!changed.get(), "what was changed on the way was taken");
    let Some(welcome) = carry(verified.welcome(welcome)) else { return };
    match client.on_frame(welcome) {
        Ok(ClientStep::Done(_)) => assert!(!changed.get(), "what was changed on the way was taken"),
        _ => assert!(changed.get(), "an honest server was refused"),
    }
}

