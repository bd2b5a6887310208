//! Through the tunnel, user and target see exactly what a direct connection shows: the same bytes, half-closes, ends
//! and resets.

use std::{io, net::SocketAddr, time::Duration};

use crate::support::{
    soon,
    target::{self, Target, serve_with},
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::cli::demo::{DemoFile, Sha256Sum};

/// One step of a user.
#[derive(Debug, Clone, Copy)]
enum Do {
    Send(&'static [u8]),
    /// Sends a file.
    SendFile(DemoFile),
    /// Sends a file while it reads as many bytes.
    Exchange(DemoFile),
    /// Sends single bytes until the connection fails.
    SendUntilRefused,
    ShutDown,
    Read(usize),
    ReadToEnd,
    /// Closes with an RST; without this step the script ends with a FIN.
    Reset,
}

/// Runs a script. Returns what the user saw at each step.
async fn user(addr: SocketAddr, script: &[Do]) -> Vec<String> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut seen = Vec::new();
    for step in script {
        let what = format!("{step:?}");
        seen.push(
            soon(&what, act(&mut socket, *step)).await.unwrap_or_else(|error| format!("{:?}", error.kind())),
        );
    }
    seen
}

async fn act(socket: &mut TcpStream, step: Do) -> io::Result<String> {
    let told = |bytes: &[u8]| format!("{} bytes, {}", bytes.len(), Sha256Sum::of(bytes));
    Ok(match step {
        Do::Send(bytes) => {
            socket.write_all(bytes).await?;
            "sent".into()
        }
        Do::SendFile(file) => {
            send_file(socket, file).await?;
            "sent".into()
        }
        Do::Exchange(file) => {
            let (mut read, mut write) = socket.split();
            let mut bytes = vec![0; usize::try_from(file.size).unwrap()];
            let (sent, got) = tokio::join!(send_file(&mut write, file), read.read_exact(&mut bytes));
            sent?;
            got?;
            told(&bytes)
        }
        Do::SendUntilRefused => loop {
            socket.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        },
        Do::ShutDown => {
            socket.shutdown().await?;
            "shut down".into()
        }
        Do::Read(n) => {
            let mut bytes = vec![0; n];
            socket.read_exact(&mut bytes).await?;
            told(&bytes)
        }
        Do::ReadToEnd => {
            let mut bytes = Vec::new();
            let error = socket.read_to_end(&mut bytes).await.err();
            format!("{}, then {:?}", told(&bytes), error.map(|error| error.kind()))
        }
        Do::Reset => {
            socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO))?;
            "reset".into()
        }
    })
}

async fn send_file(socket: &mut (impl AsyncWriteExt + Unpin), file: DemoFile) -> io::Result<()> {
    let mut offset = 0;
    while offset < file.size {
        let piece = file.bytes_from(offset);
        socket.write_all(piece).await?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Runs each script directly and through the tunnel in each format, against targets of the same kind, and asserts that
/// user and target see the same.
async fn assert_same<F: Future<Output = Target>>(target: impl Fn() -> F, scripts: &[&[Do]]) {
    for script in scripts {
        let direct = target().await;
        let expected = user(direct.addr, script).await;
        let ended =
            direct.when(|counts| counts.open == 0 && counts.accepted == 1, Duration::from_secs(5)).await;
        for format in FORMATS {
            let mut tunnel = Tunnel::start().await;
            let target = target().await;
            let public = tunnel.proxy(target.addr, format).await;
            assert_eq!(user(public, script).await, expected, "{format:?} {script:?}");
            let seen =
                target.when(|counts| counts.open == 0 && counts.accepted == 1, Duration::from_secs(5)).await;
            assert_eq!(seen, ended, "{format:?} {script:?}");
            tunnel.end().await;
        }
    }
}

const FILE: DemoFile = DemoFile { seed: 5, size: 3_000_001 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_target_behaves_like_a_direct_connection() {
    assert_same(
        target::echo,
        &[
            &[Do::Send(b"hello"), Do::ShutDown, Do::ReadToEnd],
            &[Do::Send(b"hello"), Do::Read(5), Do::Send(b"again"), Do::Read(5)],
            &[Do::Exchange(FILE), Do::ShutDown, Do::ReadToEnd],
            &[Do::ShutDown, Do::ReadToEnd],
            &[Do::Send(b"hello"), Do::Read(5), Do::Reset],
            &[],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_protocol_behaves_like_a_direct_connection() {
    assert_same(
        target::ping_pong,
        &[
            &[Do::Send(b"PING\n"), Do::Read(5), Do::Send(b"X\n"), Do::Read(5), Do::ShutDown, Do::ReadToEnd],
            &[Do::Send(b"PI"), Do::Send(b"NG\nPING\n"), Do::Read(10)],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_sends_first_behaves_like_a_direct_connection() {
    assert_same(
        || target::send(FILE),
        &[
            &[Do::ReadToEnd],
            &[Do::ShutDown, Do::ReadToEnd],
            &[Do::Send(b"unasked"), Do::ReadToEnd],
            &[Do::ReadToEnd, Do::Send(b"late"), Do::ShutDown],
        ],
    )
    .await;
    // More than fits into all buffers, so that the target is still sending when its user disconnects.
    assert_same(
        || target::send(DemoFile { size: 1 << 40, ..FILE }),
        &[
            &[Do::Read(1000)],
            &[Do::Read(1000), Do::Reset],
            &[Do::Read(1000), Do::ShutDown, Do::Read(1000), Do::Reset],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_after_a_half_close_behaves_like_a_direct_connection() {
    assert_same(
        || target::after_end(1 << 30),
        &[
            &[Do::Send(b"half closed"), Do::ShutDown, Do::ReadToEnd],
            &[Do::SendFile(FILE), Do::ShutDown, Do::ReadToEnd],
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_target_behaves_like_a_direct_connection() {
    assert_same(
        target::sink,
        &[
            &[Do::SendFile(FILE), Do::ShutDown, Do::ReadToEnd],
            &[Do::Send(b"x")],
            &[Do::Send(b"x"), Do::ShutDown, Do::ReadToEnd],
        ],
    )
    .await;
    assert_same(idle_until_reset, &[&[Do::Send(b"x"), Do::Read(1), Do::Reset]]).await;
    assert_same(idle_until_reset, &[&[Do::Send(b"x"), Do::Read(1), Do::ShutDown, Do::Reset]]).await;
}

/// Starts a target that answers one byte and then reads until an RST, also after the user's FIN.
async fn idle_until_reset() -> Target {
    serve_with(|mut socket| async move {
        socket.read_exact(&mut [0]).await?;
        socket.write_all(b"y").await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        loop {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_reset_behaves_like_a_direct_connection() {
    assert_same(
        || target::send_then_reset(FILE, 200_000),
        &[
            &[Do::Read(200_000), Do::Send(b"x"), Do::ReadToEnd],
            &[Do::Read(200_000), Do::Send(b"x"), Do::Read(1), Do::Send(b"y")],
        ],
    )
    .await;
    assert_same(|| target::send_then_reset(FILE, 0), &[&[Do::Send(b"x"), Do::ReadToEnd]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_closes_first_behaves_like_a_direct_connection() {
    let closes_at_once = || serve_with(|_socket| async { Ok(()) });
    assert_same(closes_at_once, &[&[Do::ReadToEnd], &[Do::ReadToEnd, Do::SendUntilRefused]]).await;

    // Half-closes and still reads everything that the user sends.
    let banner = || {
        serve_with(|mut socket| async move {
            socket.write_all(b"that is all").await?;
            socket.shutdown().await?;
            let taken = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
            if taken == FILE.size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    };
    assert_same(
        banner,
        &[
            &[Do::ReadToEnd, Do::SendFile(FILE), Do::ShutDown],
            &[Do::SendFile(FILE), Do::ReadToEnd, Do::ShutDown],
            &[Do::ReadToEnd, Do::Send(b"too little")],
            &[Do::ReadToEnd, Do::Send(b"too little"), Do::Reset],
        ],
    )
    .await;
}
