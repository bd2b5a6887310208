//! Floods of frames and of streams. The server is a separate process, so that its CPU time and memory can be measured.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::ProxyConfig,
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage, binary, handshake::Token},
};

use crate::{
    WINDOW, data, rest, serves_a_fresh_user,
    support::{
        LONG,
        binary::{BinaryChannel, add_proxy, bytes},
        process::{Process, TOKEN},
        soon,
        target::{self, LOOPBACK, Target},
        tunnel::RunningProxy,
        within,
    },
};

/// The server as a process, with a conforming proxy.
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
        // Its peers here speak frames without TLS.
        let (process, addr) = Process::server(TOKEN, &["--plain"]).await;
        let echo = target::echo().await;
        let token = Token::new(TOKEN);
        let config = ProxyConfig::new(addr.to_string(), "0".parse().unwrap(), echo.addr.to_string());
        let mut proxy = RunningProxy::start(config, token.clone());
        let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
        Self { process, addr, token, public, _proxy: proxy, _echo: echo }
    }

    async fn hostile(&self) -> (BinaryChannel, SocketAddr) {
        let (channel, _, public) = BinaryChannel::serving(self.addr, &self.token, 0).await;
        (channel, public)
    }

    /// Returns the CPU time of all threads of the server in nanoseconds, or 0 if the system does not report it.
    fn cpu_time_ns(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.pid()));
        let time = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        threads.into_iter().flatten().flatten().filter_map(time).sum()
    }

    fn memory(&self) -> u64 {
        self.process.resident_kib().unwrap_or(0)
    }

    /// Runs `flood` of `frames` frames and prints its cost. Returns `false` if the server closed the channel.
    async fn measure(&self, what: &str, frames: usize, flood: impl Future<Output = bool>) -> bool {
        let before = (self.cpu_time_ns(), self.memory());
        let survived = within(2 * LONG, what, flood).await;
        let spent = self.cpu_time_ns().saturating_sub(before.0);
        let (each, grown) = (spent / frames as u64, self.memory().saturating_sub(before.1));
        println!(
            "{what}: {frames} frames, {each} ns of processor time each, {grown} KiB more, stays: {survived}"
        );
        assert!(grown < 48 * 1024, "{what}: {grown} KiB more");
        survived
    }

    /// Like [`measure`](Self::measure), and asserts that other users are served afterwards.
    async fn endures(&self, what: &str, frames: usize, flood: impl Future<Output = bool>) -> bool {
        let survived = self.measure(what, frames, flood).await;
        serves_a_fresh_user(self.public).await;
        survived
    }
}

/// Sends `flood` while it reads the replies. Returns `false` if the server closed the channel.
async fn send_flood(channel: &mut BinaryChannel, flood: &[u8]) -> bool {
    let BinaryChannel { socket, buffer, .. } = channel;
    let (mut read, mut write) = socket.split();
    let marker = bytes([Frame::Ping { token: u64::MAX }]);
    let sends = async {
        _ = write.write_all(flood).await;
        _ = write.write_all(&marker).await;
    };
    let reads = async {
        loop {
            while let Some(frame) = binary::decode(buffer, binary::MAX_FRAME).unwrap() {
                if frame == (Frame::Pong { token: u64::MAX }) {
                    return true;
                }
            }
            if read.read_buf(buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    };
    tokio::join!(sends, reads).1
}

/// Number of frames without effect that a channel survives, far more than a conforming proxy sends.
const MANY: usize = 50_000;
/// Number of frames without effect that closes every channel.
const TOO_MANY: usize = 600_000;

/// Number of requests that a channel survives. At most 256 replies may be queued: a thousand requests closed the
/// channel when the server was faster than the reader in this test.
const REQUESTS: usize = 200;
/// Number of requests that closes every channel.
const TOO_MANY_REQUESTS: usize = 10_000;

/// Frames that are legal one by one: the maximum of a conforming proxy has no effect, and a flood closes its channel.
#[tokio::test]
async fn floods_of_small_frames_are_cheap_and_end_their_channel() {
    let mut program = Program::start().await;
    // The first stream of each link has ended, the second is open.
    let over = 1;
    let code = ResetCode::Killed;
    let message = |action| Frame::Message(TunnelMessage::control(action, "what?"));
    let odd = (MANY, TOO_MANY);
    let request = (REQUESTS, TOO_MANY_REQUESTS);
    type Makes = Box<dyn Fn(u32, u16) -> Frame>;
    let cases: Vec<(&str, (usize, usize), Makes)> = vec![
        ("DATA without a byte", odd, Box::new(|stream, _| data(stream, 0, b"", false))),
        ("DATA that is there already", odd, Box::new(|stream, _| data(stream, 0, b"x", false))),
        ("DATA for a stream that is over", odd, Box::new(move |_, _| data(over, 0, b"x", false))),
        ("OPEN_OK again", odd, Box::new(|stream, _| Frame::OpenOk { stream, window: WINDOW })),
        (
            "WINDOW that says nothing new",
            odd,
            Box::new(|stream, _| Frame::Window { stream, consumed: 0, window: 9 }),
        ),
        (
            "WINDOW for a stream that is over",
            odd,
            Box::new(move |_, _| Frame::Window { stream: over, consumed: 0, window: 9 }),
        ),
        (
            "RESET of a stream that is over",
            odd,
            Box::new(move |_, _| Frame::Reset { stream: over, code, final_size: 0 }),
        ),
        ("PING", odd, Box::new(|_, _| Frame::Ping { token: 5 })),
        ("PONG to nothing", odd, Box::new(|_, _| Frame::Pong { token: 1 << 40 })),
        ("RETIRE", odd, Box::new(|_, _| Frame::Retire)),
        ("CHANNELS", request, Box::new(|_, _| Frame::Channels { serial: 1, count: 64 })),
        ("GOAWAY", request, Box::new(move |_, _| Frame::GoAway { code })),
        ("ERROR", request, Box::new(move |_, _| message(TunnelAction::Error))),
        ("AUTH", request, Box::new(move |_, _| message(TunnelAction::Auth))),
        ("ADDPROXY of what it has", request, Box::new(|_, port| add_proxy(port))),
        ("ADDPROXY for a forbidden port", request, Box::new(|_, _| add_proxy(22))),
    ];
    for (what, (many, too_many), makes) in cases {
        let (mut channel, public) = program.hostile().await;
        drop(TcpStream::connect(public).await.unwrap());
        assert_eq!(channel.opened().await.stream, over);
        while !matches!(channel.hear_other().await, Frame::Reset { .. } | Frame::Data { fin: true, .. }) {}
        channel.send([Frame::Reset { stream: over, code, final_size: 0 }]).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        let stream = channel.opened().await.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"x", false)]).await;
        soon("a byte", user.read_exact(&mut [0])).await.unwrap();

        let one = bytes([makes(stream, public.port())]);
        assert!(program.measure(what, many, send_flood(&mut channel, &one.repeat(many))).await);
        // Answers PINGs meanwhile: on a busy machine this takes long enough for the keepalive timeout.
        channel.during(serves_a_fresh_user(program.public)).await;
        channel.send([data(stream, 1, b"and more", false)]).await;
        soon("more", user.read_exact(&mut [0; 8])).await.unwrap();
        assert!(!program.endures(what, too_many, send_flood(&mut channel, &one.repeat(too_many))).await);
        program.process.line("too many messages without effect").await;
        assert_eq!(rest(&mut user).await, (vec![], Err(std::io::ErrorKind::ConnectionReset)), "{what}");
    }
}

/// Floods by a proxy that reads no replies: PONGs are not queued, the number of other replies is limited, and finally
/// the server closes the channel.
#[tokio::test]
async fn floods_by_a_proxy_that_reads_no_replies_are_bounded() {
    let program = Program::start().await;
    for (what, frame) in [("PING", Frame::Ping { token: 5 }), ("ADDPROXY", add_proxy(0))] {
        let (mut channel, _) = program.hostile().await;
        let flood = bytes(vec![frame; 10_000]);
        let flooding = async {
            // Until the server closes the channel.
            while channel.socket.write_all(&flood).await.is_ok() {}
            false
        };
        program.endures(&format!("{what}, unread"), TOO_MANY, flooding).await;
    }
}

/// The rapid-reset attack on HTTP/2 servers (CVE-2023-44487): each stream is reset as soon as it is open. Here every
/// stream needs a user's connection, and its reset releases everything that the stream held.
#[tokio::test]
async fn rapid_resets_of_new_streams_are_harmless() {
    const USERS: usize = 3000;
    let program = Program::start().await;
    let (mut channel, public) = program.hostile().await;
    let resets = async {
        let users = async {
            for _ in 0..USERS / 50 {
                let mut batch = tokio::task::JoinSet::new();
                for _ in 0..50 {
                    // The RST may arrive before the connection is established.
                    batch.spawn(async move { drop(TcpStream::connect(public).await) });
                }
                batch.join_all().await;
            }
        };
        let proxy = async {
            let mut opened = 0;
            while opened < USERS {
                if let Frame::Open(Open { stream, .. }) = channel.hear_other().await {
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

/// A flood of OPENs by the proxy: only servers open streams, so that none is accepted.
#[tokio::test]
async fn streams_opened_by_a_proxy_are_refused() {
    let program = Program::start().await;
    let (mut channel, _) = program.hostile().await;
    let opens = (1..=TOO_MANY as u32).map(|stream| {
        let key = "ABC123:1".parse().unwrap();
        let priority = underpass::ids::Priority::default();
        Frame::Open(Open { stream, key, port: 1, priority, window: 1, user: None })
    });
    let flood = bytes(opens);
    let stays = program.endures("OPEN", TOO_MANY, send_flood(&mut channel, &flood)).await;
    assert!(!stays);
}

/// Traffic that must not be taken for a flood: a user who types, and many short streams that their users reset.
#[tokio::test]
async fn honest_traffic_is_not_taken_for_a_flood() {
    let program = Program::start().await;
    let (mut channel, public) = program.hostile().await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let stream = channel.opened().await.stream;
    channel.send([Frame::OpenOk { stream, window: WINDOW }]).await;
    let length = MANY as u64;
    let typing = bytes((0..length).map(|offset| data(stream, offset, b"k", false)));
    let honest = async {
        let reads = async {
            let mut all = vec![0; MANY];
            soon("what was typed", user.read_exact(&mut all)).await.unwrap();
            assert!(all.iter().all(|&byte| byte == b'k'));
        };
        // Stays within the initial window; a conforming sender may send a whole window at once.
        tokio::join!(send_flood(&mut channel, &typing), reads).0
    };
    assert!(program.endures("DATA of one byte, in order", MANY, honest).await);
    channel.send([data(stream, length, b"", true)]).await;
    assert_eq!(rest(&mut user).await, (vec![], Ok(())));
}
