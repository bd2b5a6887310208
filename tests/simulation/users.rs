//! The users and the target of their exchanges. Both ends know every expected byte and how a connection has to end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};
use underpass::cli::demo::{DemoFile, FileVerifier, TrafficCounters, TransferError, download, upload};

use crate::support::target::{Target, serve_with};

/// One connection of a user.
#[derive(Debug, Clone, Copy)]
pub enum Transfer {
    Download(DemoFile),
    Upload(DemoFile),
    Exchange(Exchange),
}

/// The user sends a file and half-closes; the target sends another file, in parallel or afterwards, and closes. No
/// length is transmitted: only the FIN tells that a file is complete.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    pub up: DemoFile,
    pub down: DemoFile,
    /// Whether both files are sent in parallel.
    pub duplex: bool,
    pub breaks: Option<Break>,
}

/// The end that resets the connection, and after how many of its own bytes.
#[derive(Debug, Clone, Copy)]
pub enum Break {
    ByUser(u64),
    ByTarget(u64),
}

/// Result of a transfer.
#[derive(Debug)]
pub enum Outcome {
    Whole,
    /// The user saw an error.
    Failed(String),
    /// One end reset the connection, as the script requires, and the user saw no clean end.
    BrokenOff,
    /// Wrong bytes or an incomplete file with a clean end, which must never happen.
    Wrong(String),
}

/// Errors at the targets, which no user sees.
pub type Wrong = Arc<Mutex<Vec<String>>>;

/// Length in bytes of one write.
const PIECE: usize = 16 * 1024;
/// Pause after each write, so that faults happen during a transfer.
const PAUSE: Duration = Duration::from_millis(2);

impl Transfer {
    /// Returns the index of its service.
    pub fn service(&self) -> usize {
        usize::from(matches!(self, Self::Exchange(_)))
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Download(file) | Self::Upload(file) => file.size,
            Self::Exchange(Exchange { up, down, .. }) => up.size + down.size,
        }
    }

    /// Runs the transfer as user number `user`.
    pub async fn run(self, public: SocketAddr, user: u8) -> Outcome {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 2 + user), 0).into()).unwrap();
        let socket = match socket.connect(public).await {
            Ok(socket) => socket,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        socket.set_nodelay(true).unwrap();
        let done = match self {
            Self::Download(file) => download(socket, file, &TrafficCounters::default()).await,
            Self::Upload(file) => upload(socket, file, &TrafficCounters::default()).await,
            Self::Exchange(exchange) => return exchange.run(socket).await,
        };
        match done {
            Ok(()) => Outcome::Whole,
            // A clean end after too few bytes: only an HTTP client detects it, by the length.
            Err(TransferError::Truncated { reason, .. })
                if reason == "connection closed before the end of the HTTP message" =>
            {
                Outcome::Wrong(format!("{self:?} ended cleanly before its end"))
            }
            Err(fault @ (TransferError::Truncated { .. } | TransferError::Connect(_))) => {
                Outcome::Failed(fault.to_string())
            }
            Err(fault) => Outcome::Wrong(format!("{self:?}: {fault}")),
        }
    }
}

impl Exchange {
    async fn run(self, mut socket: TcpStream) -> Outcome {
        let stops = match self.breaks {
            Some(Break::ByUser(after)) => Some(after),
            _ => None,
        };
        let (read, mut write) = socket.split();
        let sends = async {
            write.write_all(&self.header()).await?;
            send(write, self.up, stops).await
        };
        if stops.is_some() {
            let sent = sends.await;
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            return sent.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::BrokenOff);
        }
        // Reading and writing share one socket error, which only one of them receives.
        match tokio::join!(sends, receive(read, self.down)) {
            (_, Ok(Received::Other(wrong))) => Outcome::Wrong(format!("{self:?}: {wrong}")),
            (Err(error), _) | (_, Err(error)) if self.breaks.is_none() => Outcome::Failed(error.to_string()),
            (Err(_), _) | (_, Err(_)) => Outcome::BrokenOff,
            (Ok(()), Ok(Received::All)) if self.breaks.is_none() => Outcome::Whole,
            (Ok(()), Ok(received)) => Outcome::Wrong(format!("{self:?} ended cleanly with {received:?}")),
        }
    }

    /// Encodes what the target has to do.
    fn header(&self) -> [u8; 48] {
        let breaks = match self.breaks {
            Some(Break::ByTarget(after)) => after,
            _ => u64::MAX,
        };
        let words = [self.up.seed, self.up.size, self.down.seed, self.down.size, breaks, self.duplex.into()];
        let mut header = [0; 48];
        header.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_be_bytes()));
        header
    }

    fn from_header(header: &[u8; 48]) -> Self {
        let word = |index: usize| u64::from_be_bytes(header[index * 8..][..8].try_into().unwrap());
        Self {
            up: DemoFile { seed: word(0), size: word(1) },
            down: DemoFile { seed: word(2), size: word(3) },
            duplex: word(5) == 1,
            breaks: Some(word(4)).filter(|&after| after < u64::MAX).map(Break::ByTarget),
        }
    }
}

/// What was received until a FIN.
#[derive(Debug)]
enum Received {
    All,
    /// Only this many bytes of the file.
    Part(u64),
    /// Bytes that were never sent.
    Other(String),
}

/// Sends a file and half-closes, or stops after `stops` bytes without half-closing.
async fn send(mut write: WriteHalf<'_>, file: DemoFile, stops: Option<u64>) -> io::Result<()> {
    let mut offset = 0;
    let most = stops.map_or(file.size, |after| after.min(file.size));
    while offset < most {
        let piece = file.bytes_from(offset);
        let piece = &piece[..piece.len().min(PIECE).min((most - offset) as usize)];
        write.write_all(piece).await?;
        offset += piece.len() as u64;
        tokio::time::sleep(PAUSE).await;
    }
    if stops.is_none() { write.shutdown().await } else { Ok(()) }
}

async fn receive(mut read: ReadHalf<'_>, file: DemoFile) -> io::Result<Received> {
    let (mut verifier, mut buffer) = (FileVerifier::new(file), vec![0; PIECE]);
    loop {
        let n = read.read(&mut buffer).await?;
        if n == 0 {
            return Ok(if verifier.remaining_bytes() == 0 {
                Received::All
            } else {
                Received::Part(verifier.verified_bytes())
            });
        }
        if let Err(wrong) = verifier.verify(&buffer[..n]) {
            return Ok(Received::Other(wrong.to_string()));
        }
    }
}

/// Starts the target of the exchanges.
pub async fn exchanger(wrong: &Wrong) -> Target {
    let wrong = wrong.clone();
    serve_with(move |socket| {
        let wrong = wrong.clone();
        async move { answer(socket, &wrong).await }
    })
    .await
}

async fn answer(mut socket: TcpStream, wrong: &Wrong) -> io::Result<()> {
    let say = |what: String| wrong.lock().unwrap().push(what);
    let mut header = [0; 48];
    if let Err(error) = socket.read_exact(&mut header).await {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            say("a connection to the target ended cleanly before it had begun".into());
        }
        return Err(error);
    }
    let exchange = Exchange::from_header(&header);
    let stops = match exchange.breaks {
        Some(Break::ByTarget(after)) => Some(after),
        _ => None,
    };
    let (read, write) = socket.split();
    let (received, sent) = if exchange.duplex {
        tokio::join!(receive(read, exchange.up), async {
            let sent = send(write, exchange.down, stops).await;
            // An end that resets does not wait for the other file.
            if stops.is_some() { Err(io::ErrorKind::Interrupted.into()) } else { sent }
        })
    } else {
        let received = receive(read, exchange.up).await;
        match &received {
            Ok(Received::All) => (received, send(write, exchange.down, stops).await),
            _ => (received, Ok(())),
        }
    };
    match (received, &sent) {
        (Ok(Received::Other(what)), _) => say(format!("{exchange:?}: the target got {what}")),
        (Ok(Received::Part(bytes)), Ok(())) => {
            say(format!("{exchange:?}: the target got a clean end after {bytes} bytes"));
        }
        _ => {}
    }
    if stops.is_some() {
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    }
    sent
}

/// Returns small transfers of both services that have to succeed after the faults.
pub fn probe() -> [Transfer; 2] {
    let (up, down) = (DemoFile { seed: 1, size: 30_000 }, DemoFile { seed: 2, size: 30_000 });
    [Transfer::Download(down), Transfer::Exchange(Exchange { up, down, duplex: false, breaks: None })]
}
