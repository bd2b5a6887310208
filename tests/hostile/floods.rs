//! More of something than anybody needs. The server is a process of its own here, so that its processor time and its
//! memory are its own.

use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::ProxyConfig,
    wire::{Frame, OpenFrame, ResetCode, TunnelAction, TunnelMessage, binary, handshake::Token},
};

use crate::{
    WINDOW, data, rest, serves_a_fresh_user,
    support::{
        LONG,
        binary::{BinaryChannel, add_proxy, bytes},
        process::Process,
        soon,
        target::{self, LOOPBACK, Target},
        tunnel::RunningProxy,
        within,
    },
};

/// The real program, with an honest proxy.
struct Program {
    process: Process,
    addr: SocketAddr,
    token: Token,
    public: SocketAddr,
    _proxy: RunningProxy,
    _echo: Target,
}

impl Program {
    async fn start() -> Self {
        let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--token", "t", "--no-tui"];
        let mut process = Process::underpass(&args);
        let line = process.line("listening for proxies on ").await;
        let addr: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
        let echo = target::echo().await;
        let token = Token::new("t");
        let config = ProxyConfig::new(addr.to_string(), "0".parse().unwrap(), echo.addr.to_string());
        let mut proxy = RunningProxy::start(config, token.clone());
        let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
        Self { process, addr, token, public, _proxy: proxy, _echo: echo }
    }

    async fn hostile(&self) -> (BinaryChannel, SocketAddr) {
        let (channel, _, public) = BinaryChannel::serving(self.addr, &self.token, 0).await;
        (channel, public)
    }

    /// Processor time so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    fn memory(&self) -> u64 {
        self.process.resident_kib().unwrap_or(0)
    }

    /// Runs `flood` of so many frames, and says what it cost.
    async fn endures(&self, what: &str, frames: usize, flood: impl Future<Output = bool>) -> bool {
        let before = (self.ticks(), self.memory());
        let survived = within(2 * LONG, what, flood).await;
        let (ticks, grown) = (self.ticks() - before.0, self.memory().saturating_sub(before.1));
        let each = ticks as f64 * 1e7 / frames as f64;
        println!(
            "{what}: {frames} frames, {each:.0} ns of processor time each, {grown} KiB more, stays: {survived}"
        );
        serves_a_fresh_user(self.public).await;
        assert!(grown < 48 * 1024, "{what}: {grown} KiB more");
        survived
    }
}

/// Sends all of it while it reads what is answered. False if the channel ended.
async fn floods(channel: &mut BinaryChannel, flood: &[u8]) -> bool {
    let (mut read, mut write) = channel.socket.split();
    let marker = bytes([Frame::Ping { token: u64::MAX }]);
    let sends = async {
        _ = write.write_all(flood).await;
        _ = write.write_all(&marker).await;
    };
    let reads = async {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = binary::decode(&mut buffer, binary::MAX_FRAME).unwrap() {
                if frame == (Frame::Pong { token: u64::MAX }) {
                    return true;
                }
            }
            if read.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    };
    tokio::join!(sends, reads).1
}

const FRAMES: usize = 100_000;

/// Frames that are no error one by one, a hundred thousand at a time, from a proxy that reads the answers.
#[tokio::test]
async fn floods_of_small_frames_end_their_channel_or_cost_little() {
    let program = Program::start().await;
    let message = |action| Frame::Message(TunnelMessage::control(action, "what?"));
    let over = 1;
    let cases: Vec<(&str, Box<dyn Fn(u32, u16) -> Frame>)> = vec![
        ("DATA without a byte", Box::new(|stream, _| data(stream, 0, b"", false))),
        ("DATA that is there already", Box::new(|stream, _| data(stream, 0, b"x", false))),
        ("DATA for a stream that is over", Box::new(move |_, _| data(over, 0, b"x", false))),
        ("OPEN_OK again", Box::new(|stream, _| Frame::OpenOk { stream, window: WINDOW })),
        (
            "WINDOW that says nothing new",
            Box::new(|stream, _| Frame::Window { stream, consumed: 0, window: 9 }),
        ),
        (
            "WINDOW for a stream that is over",
            Box::new(move |_, _| Frame::Window { stream: over, consumed: 0, window: 9 }),
        ),
        ("BLOCKED", Box::new(|stream, _| Frame::Blocked { stream, offset: 0 })),
        (
            "RESET of a stream that is over",
            Box::new(move |_, _| Frame::Reset { stream: over, code: ResetCode::Killed, final_size: 0 }),
        ),
        ("PING", Box::new(|_, _| Frame::Ping { token: 5 })),
        ("PONG to nothing", Box::new(|_, _| Frame::Pong { token: 1 << 40 })),
        ("GOAWAY", Box::new(|_, _| Frame::GoAway { last_stream: 0, code: ResetCode::Shutdown })),
        ("ERROR", Box::new(move |_, _| message(TunnelAction::Error))),
        ("AUTH", Box::new(move |_, _| message(TunnelAction::Auth))),
        ("ADDPROXY of what it has", Box::new(|_, port| add_proxy(port))),
        ("ADDPROXY of what nobody gets", Box::new(|_, _| add_proxy(22))),
    ];
    for (what, frame) in cases {
        let (mut channel, public) = program.hostile().await;
        // The first stream of the link is over, the second is open.
        drop(TcpStream::connect(public).await.unwrap());
        channel.opened().await;
        while !matches!(channel.hear_other().await, Frame::Reset { .. } | Frame::Data { fin: true, .. }) {}
        channel.send([Frame::Reset { stream: over, code: ResetCode::TargetGone, final_size: 0 }]).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        let stream = channel.opened().await.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"x", false)]).await;
        soon("a byte", user.read_exact(&mut [0])).await.unwrap();
        let flood = bytes((0..FRAMES).map(|_| frame(stream, public.port())));
        let stays = program.endures(what, FRAMES, floods(&mut channel, &flood)).await;
        if stays {
            channel.send([data(stream, 1, b"fin", true)]).await;
            assert_eq!(rest(&mut user).await, (b"fin".to_vec(), Ok(())), "{what}");
        } else {
            assert!(rest(&mut user).await.1.is_err(), "{what}");
        }
    }
}

/// Floods of a proxy that reads no answers: PONGs are not kept, and of the other answers there may be so many.
#[tokio::test]
async fn floods_of_a_proxy_that_reads_no_answers_cost_nothing() {
    let mut program = Program::start().await;
    for (what, frame, stays) in [("PING", Frame::Ping { token: 5 }, true), ("ADDPROXY", add_proxy(0), false)]
    {
        let (mut channel, _) = program.hostile().await;
        let flood = bytes(vec![frame; 10_000]);
        let flooding = async {
            for _ in 0..60 {
                if channel.socket.write_all(&flood).await.is_err() {
                    return false;
                }
            }
            true
        };
        assert_eq!(program.endures(&format!("{what}, unread"), 600_000, flooding).await, stays, "{what}");
        drop(channel);
        program.process.line("is gone").await;
    }
}

/// What HTTP/2 servers fell over in 2023: as many streams as come, each reset as soon as it is open. Here it takes a
/// user's connection for each, and with the reset all that the stream held is free.
#[tokio::test]
async fn streams_that_are_reset_as_fast_as_they_open() {
    const USERS: usize = 3000;
    let program = Program::start().await;
    let (mut channel, public) = program.hostile().await;
    let resets = async {
        let users = async {
            for _ in 0..USERS / 50 {
                let mut batch = tokio::task::JoinSet::new();
                for _ in 0..50 {
                    // Its reset may be there before the connection is.
                    batch.spawn(async move { drop(TcpStream::connect(public).await) });
                }
                batch.join_all().await;
            }
        };
        let proxy = async {
            let mut opened = 0;
            while opened < USERS {
                if let Frame::Open(OpenFrame { stream, .. }) = channel.hear_other().await {
                    opened += 1;
                    let code = ResetCode::TargetRefused;
                    channel.send([Frame::Reset { stream, code, final_size: 0 }]).await;
                }
            }
            channel.settle().await;
        };
        tokio::join!(users, proxy);
        true
    };
    assert!(program.endures("OPEN and RESET", USERS, resets).await);
}

/// A flood of streams that the proxy opens: none of them is any.
#[tokio::test]
async fn a_proxy_that_opens_streams_opens_none() {
    let program = Program::start().await;
    let (mut channel, _) = program.hostile().await;
    let opens = (1..=FRAMES as u32).map(|stream| {
        let key = "ABC123:1".parse().unwrap();
        let priority = underpass::ids::Priority::default();
        Frame::Open(OpenFrame { stream, key, port: 1, priority, window: 1, user: None })
    });
    let flood = bytes(opens);
    let stays = program.endures("OPEN", FRAMES, floods(&mut channel, &flood)).await;
    assert!(!stays);
}

/// What must never be taken for a flood: a user who types, and many short streams each of which its user resets.
#[tokio::test]
async fn honest_traffic_is_no_flood() {
    let program = Program::start().await;
    let (mut channel, public) = program.hostile().await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let stream = channel.opened().await.stream;
    channel.send([Frame::OpenOk { stream, window: WINDOW }]).await;
    let length = FRAMES as u64;
    let typing = bytes((0..length).map(|offset| data(stream, offset, b"k", false)));
    let honest = async {
        let reads = async {
            let mut all = vec![0; FRAMES];
            soon("what was typed", user.read_exact(&mut all)).await.unwrap();
            assert!(all.iter().all(|&byte| byte == b'k'));
        };
        // A window's worth at a time would be honest too; this is within the first.
        tokio::join!(floods(&mut channel, &typing), reads).0
    };
    assert!(program.endures("DATA of one byte, in order", FRAMES, honest).await);
    channel.send([data(stream, length, b"", true)]).await;
    assert_eq!(rest(&mut user).await, (vec![], Ok(())));
}
