//! One end of a channel in the text format, implemented without the library's codec, so that an error of the codec
//! cannot hide itself.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::soon;

/// Number of fields of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldCount {
    Three,
    Four,
}

pub const BOTH: [FieldCount; 2] = [FieldCount::Three, FieldCount::Four];

/// One end of a text channel.
pub struct TextChannel {
    pub fields: FieldCount,
    pub read: BufReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
}

/// A received line: user (empty for the channel itself), stream number, action and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub user: String,
    pub stream: String,
    pub action: String,
    pub data: Vec<u8>,
}

impl Said {
    /// Returns the data as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.data.clone()).unwrap()
    }

    /// Returns the stream key, such as `3F9A1C:1`.
    pub fn key(&self) -> String {
        format!("{}:{}", self.user, self.stream)
    }
}

impl TextChannel {
    pub fn new(socket: TcpStream, fields: FieldCount) -> Self {
        socket.set_nodelay(true).unwrap();
        let (read, write) = socket.into_split();
        Self { fields, read: BufReader::new(read), write }
    }

    pub async fn connect(server: SocketAddr, fields: FieldCount) -> Self {
        Self::new(soon("a connection", TcpStream::connect(server)).await.unwrap(), fields)
    }

    /// Encodes a line.
    pub fn line(&self, user: &str, stream: u32, action: &str, data: &[u8]) -> String {
        let data = BASE64.encode(data);
        match self.fields {
            FieldCount::Three => format!("{user}|{action}|{data}\n"),
            FieldCount::Four => format!("{user}|{stream}|{action}|{data}\n"),
        }
    }

    pub async fn send(&mut self, user: &str, stream: u32, action: &str, data: &[u8]) {
        let line = self.line(user, stream, action, data);
        self.send_raw(line.as_bytes()).await;
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        soon("the peer reads", self.write.write_all(bytes)).await.unwrap();
    }

    /// Sends a line on the stream of a received line.
    pub async fn answer(&mut self, to: &Said, action: &str, data: &[u8]) {
        self.send(&to.user, to.stream.parse().unwrap(), action, data).await;
    }

    /// Reads the next line without its line end; `None` at the end of the channel, after a FIN as well as after an RST.
    pub async fn hear_raw(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = soon("a line", self.read.read_line(&mut line)).await.unwrap_or(0);
        (n > 0).then(|| line.strip_suffix('\n').unwrap().to_owned())
    }

    /// Reads and decodes the next line.
    pub async fn hear(&mut self) -> Said {
        let line = self.hear_raw().await.expect("the peer is gone");
        let mut fields: Vec<_> = line.split('|').map(str::to_owned).collect();
        if self.fields == FieldCount::Three {
            fields.insert(1, "0".into());
        }
        let [user, stream, action, data] = fields.try_into().unwrap();
        Said { user, stream, action, data: BASE64.decode(data).unwrap() }
    }

    /// Reads the next line other than PING, and answers PINGs.
    pub async fn hear_other(&mut self) -> Said {
        loop {
            let said = self.hear().await;
            if said.action != "PING" {
                return said;
            }
            self.answer(&said, "PONG", &said.data).await;
        }
    }

    /// Reads the next line other than PING and asserts its action.
    pub async fn hear_action(&mut self, action: &str) -> Said {
        let said = self.hear_other().await;
        assert_eq!(said.action, action, "{said:?}");
        said
    }

    /// Reads the next line and asserts its content.
    pub async fn hear_that(&mut self, user: &str, stream: u32, action: &str, data: &[u8]) {
        let stream = if self.fields == FieldCount::Three { 0 } else { stream };
        let wanted =
            Said { user: user.into(), stream: stream.to_string(), action: action.into(), data: data.into() };
        assert_eq!(self.hear().await, wanted);
    }

    /// Waits until the peer has processed everything sent before.
    pub async fn settle(&mut self) {
        self.send("", 0, "PING", b"settled?").await;
        let said = self.hear_action("PONG").await;
        assert_eq!(said.data, b"settled?");
    }
}
