//! The connection to the server: on a thread of its own, which reconnects after a loss.

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt as _,
    net::unix::OwnedWriteHalf,
    sync::{mpsc, oneshot},
};

use super::{dial::Destination, outgoing::Outgoing, source::Inbox};
use crate::{
    control::{Capabilities, CommandError, CommandReply, Executed},
    feed::{Interest, Line},
    operator::{
        self, Access, Client, ClientError, Greeting, LineSource, Request, RequestError, Role, WatchQuery,
    },
    tui::CommandId,
};

/// How many lines the server may send before the cockpit has taken them: a second of a busy server. What it cannot send
/// it leaves out, and says so.
const CREDIT: u64 = 2000;
/// The time between two states of the server, in milliseconds: that of the cockpit of the server itself.
const SAMPLE_INTERVAL_MS: u64 = 100;
/// The most requests that wait to be sent.
const MAX_QUEUED_REQUESTS: usize = 128;
/// The backoff before the first attempt to reconnect; it doubles up to the maximum.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// The longest backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Link {
    /// What has been received.
    pub(super) inbox: Arc<Mutex<Inbox>>,
    /// What is sent. Dropping it ends the thread.
    pub(super) requests: mpsc::Sender<Outgoing>,
    /// What the operator may do.
    pub(super) capabilities: Capabilities,
    /// The name of the process, for the header.
    pub(super) name: String,
    /// Whether the process is a server or a proxy.
    pub(super) role: Role,
}

/// What the first connection has found.
struct Found {
    /// The name of the process.
    name: String,
    /// Whether it is a server or a proxy.
    role: Role,
    /// What the operator may do.
    capabilities: Capabilities,
}

/// The id of the request whose answer is the state of the server.
const WATCH_ID: u64 = 1;
/// What is added to the number of a command for the id of its request.
const COMMAND_IDS: u64 = 1000;

impl Link {
    /// Connects, and starts the thread that keeps the connection until the requests are dropped.
    ///
    /// # Errors
    /// The first connection cannot be established, or the state of the process not be read; after a later loss it
    /// reconnects.
    pub(super) fn open(destination: Destination) -> anyhow::Result<Self> {
        let inbox = Arc::<Mutex<Inbox>>::default();
        let (requests, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let (opened, first) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (inbox_of_thread, interest) = (inbox.clone(), Interest::default());
        let kept = Keeper { destination, inbox: inbox_of_thread, requests: receiver, interest, role: None };
        // The thread ends with the process: it holds nothing that has to be released in order.
        thread::Builder::new().name("attach".to_owned()).spawn(move || runtime.block_on(kept.run(opened)))?;
        let Found { name, role, capabilities } = first.blocking_recv()??;
        Ok(Self { inbox, requests, capabilities, name, role })
    }
}

/// Keeps a connection.
struct Keeper {
    /// Where the server is.
    destination: Destination,
    /// Where what is received goes.
    inbox: Arc<Mutex<Inbox>>,
    /// What is to be sent.
    requests: mpsc::Receiver<Outgoing>,
    /// What the screen shows, for the next connection.
    interest: Interest,
    /// What the process is; `None` before the first connection.
    role: Option<Role>,
}

/// Why a connection ends.
enum End {
    /// The cockpit is gone.
    Detached,
    /// The connection is lost, for this reason.
    Lost(String),
}

impl Keeper {
    /// Connects, reports the first attempt, and keeps the connection until the cockpit is gone.
    async fn run(mut self, opened: oneshot::Sender<anyhow::Result<Found>>) {
        let client = match self.connect(true).await {
            Ok(client) => client,
            Err(error) => {
                // `open` waits for it.
                _ = opened.send(Err(error));
                return;
            }
        };
        let Greeting { role, name, mut boot, .. } = client.greeting().clone();
        self.role = Some(role);
        let capabilities = capabilities_of(&client);
        self.inbox.lock().begin(false, capabilities);
        // With its state: one that is not given, or not understood, is not worth a cockpit that stays empty.
        let mut watched = match self.watch(client).await {
            Ok(watched) => {
                if opened.send(Ok(Found { name, role, capabilities })).is_err() {
                    return;
                }
                Ok(watched)
            }
            Err(error) => {
                _ = opened.send(Err(error));
                return;
            }
        };
        loop {
            let end = match watched {
                Ok((lines, writer)) => self.serve(lines, writer).await,
                Err(error) => End::Lost(format!("{error:#}")),
            };
            match end {
                End::Detached => return,
                End::Lost(why) => self.inbox.lock().lose(why),
            }
            let Some(client) = self.reconnect().await else { return };
            let is_other = client.greeting().boot != boot;
            boot.clone_from(&client.greeting().boot);
            self.inbox.lock().begin(is_other, capabilities_of(&client));
            watched = self.watch(client).await;
        }
    }

    /// Connects to the server.
    async fn connect(&self, is_first: bool) -> anyhow::Result<Client> {
        let client = self.destination.dial(is_first).await?;
        let Greeting { role, name, .. } = client.greeting();
        // The screens are those of the other role.
        if self.role.is_some_and(|shown| shown != *role) {
            anyhow::bail!("«{name}» is a {} now: attach again", role.as_str());
        }
        Ok(client)
    }

    /// Tries to connect until it succeeds. Returns `None` once the cockpit is gone.
    async fn reconnect(&mut self) -> Option<Client> {
        let mut backoff = MIN_BACKOFF;
        loop {
            let deadline = tokio::time::Instant::now() + backoff;
            while let Ok(request) = tokio::time::timeout_at(deadline, self.requests.recv()).await {
                match request? {
                    Outgoing::Command(id, _) => self.inbox.lock().reply(id, Err(CommandError::ServerStopped)),
                    Outgoing::Interest(interest) => self.interest = interest,
                    Outgoing::Credit(_) => {}
                }
            }
            match self.connect(false).await {
                Ok(client) => return Some(client),
                Err(error) => self.inbox.lock().lose(format!("{error:#}")),
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Asks for the state of the other side, and takes the first one.
    async fn watch(&self, client: Client) -> anyhow::Result<(LineSource, OwnedWriteHalf)> {
        let version = client.greeting().underpass.clone();
        let (mut lines, mut writer) = client.into_split();
        let watch = Request::Watch(WatchQuery {
            credit: CREDIT,
            interval_ms: SAMPLE_INTERVAL_MS,
            log: true,
            interest: self.interest.clone(),
        });
        writer.write_all(&operator::request_line(WATCH_ID, &watch)).await?;
        let text = lines.next_text().await?;
        let taken = match Line::parse(&text) {
            Ok(line) => self.inbox.lock().take_line(line).map_err(|error| error.to_string()),
            Err(error) => match serde_json::from_slice(&text) {
                Ok(operator::Line { error: Some(refusal), .. }) => return Err(refusal.into()),
                _ => Err(error.to_string()),
            },
        };
        taken.map_err(|error| ClientError::Answer { version, error })?;
        Ok((lines, writer))
    }

    /// Carries lines in both directions until the connection ends.
    async fn serve(&mut self, lines: LineSource, writer: OwnedWriteHalf) -> End {
        let awaited = Mutex::new(Vec::new());
        // Neither direction waits for the other: the server may stop to read while it writes.
        let end = tokio::select! {
            end = receive(lines, &self.inbox, &awaited) => end,
            end = send(writer, &mut self.requests, &mut self.interest, &awaited) => end,
        };
        for id in awaited.into_inner() {
            self.inbox.lock().reply(id, Err(CommandError::ServerStopped));
        }
        end
    }
}

/// Receives lines until the connection ends.
async fn receive(mut lines: LineSource, inbox: &Mutex<Inbox>, awaited: &Mutex<Vec<CommandId>>) -> End {
    loop {
        let text = match lines.next_text().await {
            Ok(text) => text,
            Err(error) => return End::Lost(error.to_string()),
        };
        // Answers have no number.
        if let Ok(line) = Line::parse(&text) {
            if let Err(error) = inbox.lock().take_line(line) {
                return End::Lost(error.to_string());
            }
            continue;
        }
        let answer: operator::Line = match serde_json::from_slice(&text) {
            Ok(answer) => answer,
            Err(error) => return End::Lost(format!("a line of the other side is not understood ({error})")),
        };
        match (answer.id.as_u64(), answer.error) {
            (Some(id @ COMMAND_IDS..), error) => {
                let id = CommandId(id - COMMAND_IDS);
                awaited.lock().retain(|awaited| *awaited != id);
                inbox.lock().reply(id, reply_of(answer.ok, error));
            }
            (_, Some(error)) => return End::Lost(error.message),
            (_, None) => {}
        }
    }
}

/// Sends requests until the connection ends or the cockpit is gone.
async fn send(
    mut writer: OwnedWriteHalf,
    requests: &mut mpsc::Receiver<Outgoing>,
    interest: &mut Interest,
    awaited: &Mutex<Vec<CommandId>>,
) -> End {
    while let Some(request) = requests.recv().await {
        let line = match request {
            Outgoing::Credit(add) => operator::request_line(WATCH_ID, &Request::Credit { add }),
            Outgoing::Interest(shown) => {
                *interest = shown.clone();
                operator::request_line(WATCH_ID, &Request::Interest(shown))
            }
            Outgoing::Command(id, command) => {
                awaited.lock().push(id);
                operator::request_line(COMMAND_IDS + id.0, &Request::from(&command))
            }
        };
        if let Err(error) = writer.write_all(&line).await {
            return End::Lost(error.to_string());
        }
    }
    End::Detached
}

/// Returns the reply to a command as the cockpit knows it.
fn reply_of(ok: Option<serde_json::Value>, error: Option<RequestError>) -> CommandReply {
    if let Some(error) = error {
        return Err(error.into());
    }
    let affected = ok.as_ref().and_then(|ok| ok.get("affected_streams")?.as_u64());
    Ok(Executed { affected_streams: affected.unwrap_or(0) as usize })
}

/// Returns what the operator may do on a server or proxy.
fn capabilities_of(client: &Client) -> Capabilities {
    let Greeting { access, role, .. } = client.greeting();
    match (access, role) {
        (Some(Access::Operate), Role::Server) => Capabilities::all(),
        (Some(Access::Operate), Role::Proxy) => Capabilities::of_proxy(),
        _ => Capabilities::none(),
    }
}
