//! One connection to the control socket.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::broadcast,
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    execute::{self, Answered},
    line_reader::{LineError, LineReader},
    peer::{Access, Peer},
    protocol::{self, ErrorCode, MAX_REQUEST_BYTES, RequestError, RequestResult},
    request::{self, Request, RequestInfo, WatchQuery},
    shared::Shared,
    watcher::Watcher,
};
use crate::{
    feed::Interest,
    telemetry::{Event, RecentFailures},
};

/// How long a client may take for a short answer before it is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes of a long answer a client has to take in a second.
const MIN_WRITE_RATE: usize = 256 * 1024;

/// One connection to the control socket.
#[derive(Debug)]
pub(super) struct Connection {
    /// Reads requests.
    reader: LineReader<OwnedReadHalf>,
    /// Writes answers.
    writer: OwnedWriteHalf,
    /// The client.
    peer: Peer,
    /// What it may do.
    access: Access,
    /// What all connections share.
    shared: Arc<Shared>,
    /// Cancelled when the process ends.
    stop: CancellationToken,
    /// The events that the client follows; `None` if it follows none.
    events: Option<EventFollower>,
    /// The state that the client watches; `None` if it does not.
    watcher: Option<Watcher>,
    /// Whether the connection is idle, and has to give way to another one.
    activity: Arc<Activity>,
}

/// A client's request to follow events.
#[derive(Debug)]
struct EventFollower {
    /// The id of the request.
    id: Value,
    /// The events; those that a slow client misses are counted.
    receiver: broadcast::Receiver<Event>,
    /// How many lines may still be sent; `None`: as many as the client reads.
    credit: Option<u64>,
    /// The events that the client has got with the answer, and that the receiver may have, too.
    sent: Vec<Event>,
}

/// Why a connection ends.
enum End {
    /// The client closed it, it failed, or the process ends.
    Closed,
    /// The client broke a rule; it is told which.
    Refused(RequestError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// What a connection waits for.
enum Next {
    /// A line of the client; `None` at its end.
    Line(Result<Option<bytes::Bytes>, LineError>),
    /// An event, or how many were missed.
    Event(Result<Event, broadcast::error::RecvError>),
    /// Lines for the watcher are due.
    Watch,
    /// The process ends.
    Stop,
    /// Another connection takes the place of this one.
    Displaced,
}

impl Connection {
    /// Creates the connection of an admitted client.
    pub(super) fn new(
        socket: UnixStream,
        peer: Peer,
        access: Access,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Self {
        let (reader, writer) = socket.into_split();
        let reader = LineReader::new(reader, MAX_REQUEST_BYTES);
        let activity = Arc::new(Activity::new());
        Self { reader, writer, peer, access, shared, stop, events: None, watcher: None, activity }
    }

    /// Returns what the connection is doing, also after it was started.
    pub(super) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Greets the client and serves its requests until it closes the connection or the process ends.
    pub(super) async fn run(mut self) {
        if let Err(End::Refused(error)) = self.serve().await {
            _ = self.write(&protocol::answer(&Value::Null, &Err(error))).await;
        }
    }

    /// Serves requests until the connection ends, and returns why it does.
    async fn serve(&mut self) -> Result<(), End> {
        self.write(&protocol::line(&self.shared.greeting(self.access))).await?;
        loop {
            let next = {
                let events = async {
                    match &mut self.events {
                        Some(EventFollower { receiver, credit: None | Some(1..), .. }) => {
                            receiver.recv().await
                        }
                        _ => std::future::pending().await,
                    }
                };
                tokio::select! {
                    line = self.reader.next_line() => Next::Line(line),
                    event = events => Next::Event(event),
                    () = due(&mut self.watcher) => Next::Watch,
                    () = self.stop.cancelled() => Next::Stop,
                    () = self.activity.displaced() => Next::Displaced,
                }
            };
            match next {
                Next::Line(Ok(Some(line))) if line.is_empty() => {}
                Next::Line(Ok(Some(_))) if !self.activity.try_begin() => return self.give_way(),
                Next::Line(Ok(Some(line))) => {
                    self.serve_request(&line).await?;
                    if self.events.is_none() && self.watcher.is_none() {
                        self.activity.rest();
                    }
                }
                Next::Displaced => return self.give_way(),
                Next::Line(Ok(None) | Err(LineError::Io(_))) | Next::Stop => return Ok(()),
                Next::Line(Err(LineError::TooLong(_))) => {
                    let why =
                        format!("a request may have {MAX_REQUEST_BYTES} bytes; the connection is closed");
                    return Err(End::Refused(RequestError::new(ErrorCode::LineTooLong, why)));
                }
                Next::Event(event) => self.send_event(event).await?,
                Next::Watch => {
                    if let Some(watcher) = &mut self.watcher {
                        // A panic, which is logged: the client has to know that no more lines follow.
                        let Some(lines) = watcher.lines().await else {
                            let why = "the state could not be read; the log of the process says why";
                            return Err(End::Refused(RequestError::new(ErrorCode::Failed, why)));
                        };
                        self.write(&lines).await?;
                    }
                }
            }
        }
    }

    /// Tells the client why its connection ends, if it takes that at once: the one that takes its place waits.
    fn give_way(&mut self) -> Result<(), End> {
        let why = "this connection was idle and gave way to another one, because the control socket had its maximum of connections";
        let refusal = RequestError::new(ErrorCode::Busy, why);
        _ = self.writer.try_write(&protocol::answer(&Value::Null, &Err(refusal)));
        Err(End::Closed)
    }

    /// Performs the request in `line` and answers it.
    async fn serve_request(&mut self, line: &[u8]) -> Result<(), End> {
        let received = request::parse(line);
        let result = match self.perform(&received.id, received.request).await {
            Ok(None) => return Ok(()),
            Ok(Some(Answered::List(list))) => return Ok(self.write(&list.line).await?),
            Ok(Some(Answered::Value(value))) => Ok(value),
            Err(error) => Err(error),
        };
        self.write(&protocol::answer(&received.id, &result)).await?;
        Ok(())
    }

    /// Performs a request. Returns its answer; `None` if it has none.
    async fn perform(
        &mut self,
        id: &Value,
        request: Result<(Request, &'static RequestInfo), RequestError>,
    ) -> Result<Option<Answered>, RequestError> {
        let (request, info) = request?;
        self.check(&request, info)?;
        match request {
            // An answer of its own would need credit, too.
            Request::Credit { add } => self.grant(id, add).map(|()| None),
            // Its lines answer it.
            Request::Watch(query) => self.watch(id, query).map(|()| None),
            Request::Interest(interest) => self.set_interest(id, interest).map(|()| None),
            Request::Events { credit, recent } => {
                self.follow_events(id, credit, recent).map(|ok| Some(Answered::Value(ok)))
            }
            Request::Whoami => Ok(Some(Answered::Value(self.whoami()))),
            request => execute::perform(&self.shared, &self.peer, id, request).await.map(Some),
        }
    }

    /// Checks whether the client may send this request to this process.
    fn check(&self, request: &Request, info: &RequestInfo) -> Result<(), RequestError> {
        if info.access == Access::Operate && self.access == Access::Read {
            let error = RequestError::new(
                ErrorCode::Forbidden,
                format!(
                    "{} changes something, and this user may only read; members of --control-group may",
                    info.name
                ),
            );
            if self.shared.forbidden.admit(Instant::now()).is_some() {
                execute::audit(&self.shared, &self.peer, &execute::describe(request), Err(&error));
            }
            return Err(error);
        }
        Ok(())
    }

    /// Returns who the client is.
    fn whoami(&self) -> Value {
        json!({ "uid": self.peer.uid, "pid": self.peer.pid, "access": self.access })
    }

    /// Lets the client follow events. Returns what was refused or failed before, if it asks for that.
    fn follow_events(&mut self, id: &Value, credit: Option<u64>, with_recent: bool) -> RequestResult {
        if self.events.is_some() {
            return Err(RequestError::invalid(
                "this connection follows events already: one request for them is enough",
            ));
        }
        let receiver = self.shared.telemetry().subscribe();
        let mut follower = EventFollower { id: id.clone(), receiver, credit, sent: Vec::new() };
        let mut answer = json!({});
        if with_recent {
            let RecentFailures { events, dropped } = self.shared.telemetry().recent_failures();
            let recent: Vec<Value> = events.iter().map(event_and_text).collect();
            answer = json!({ "recent": recent, "dropped": dropped });
            // One that happens now may be in both; the receiver is behind by no more than that.
            follower.sent = events;
        }
        self.events = Some(follower);
        Ok(answer)
    }

    /// Lets the client watch the state.
    fn watch(&mut self, id: &Value, query: WatchQuery) -> Result<(), RequestError> {
        let Some(id) = id.as_u64() else {
            return Err(RequestError::invalid("watch: «id» has to be a number, which each line repeats"));
        };
        if self.watcher.is_some() {
            return Err(RequestError::invalid(
                "this connection watches already: use «interest» to change what, or another connection",
            ));
        }
        let watchers = self.shared.bounds(&self.peer).watchers.clone();
        let Ok(permit) = watchers.try_acquire_owned() else {
            let why = "as many clients watch this process as may; close one and try again";
            return Err(RequestError::new(ErrorCode::Busy, why));
        };
        let log = query.log.then(|| self.shared.log().subscribe());
        let interval = Duration::from_millis(query.interval_ms);
        self.watcher = Some(Watcher::new(
            id,
            query.credit,
            interval,
            query.interest,
            self.shared.telemetry().clone(),
            log,
            permit,
        ));
        Ok(())
    }

    /// Changes what the client shows of what it watches.
    fn set_interest(&mut self, id: &Value, interest: Interest) -> Result<(), RequestError> {
        match &mut self.watcher {
            Some(watcher) if id.as_u64() == Some(watcher.id) => {
                watcher.set_interest(interest);
                Ok(())
            }
            _ => Err(RequestError::invalid("interest: «id» has to be that of the request «watch»")),
        }
    }

    /// Grants a follower more lines.
    fn grant(&mut self, id: &Value, add: u64) -> Result<(), RequestError> {
        if let Some(watcher) = self.watcher.as_mut().filter(|watcher| id.as_u64() == Some(watcher.id)) {
            watcher.credit = watcher.credit.saturating_add(add);
            return Ok(());
        }
        match &mut self.events {
            Some(follower) if follower.id == *id => {
                follower.credit = follower.credit.map(|credit| credit.saturating_add(add));
                Ok(())
            }
            _ => Err(RequestError::invalid("credit: «id» has to be that of a request that is followed")),
        }
    }

    /// Sends an event, or how many the client has missed.
    async fn send_event(&mut self, event: Result<Event, broadcast::error::RecvError>) -> Result<(), End> {
        let Some(follower) = &mut self.events else { return Ok(()) };
        if let Ok(event) = &event {
            let newest = follower.sent.last().map_or(0, |sent| sent.epoch_ms);
            if follower.sent.iter().any(|sent| is_same(sent, event)) {
                return Ok(());
            }
            if event.epoch_ms > newest {
                follower.sent = Vec::new();
            }
        }
        follower.credit = follower.credit.map(|credit| credit.saturating_sub(1));
        let id = &follower.id;
        let line = match event {
            Ok(event) => {
                let mut line = event_and_text(&event);
                line["id"] = id.clone();
                line
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                json!({ "id": id, "missed": { "events": missed } })
            }
            Err(broadcast::error::RecvError::Closed) => return Err(End::Closed),
        };
        self.write(&protocol::line(&line)).await?;
        Ok(())
    }

    /// Writes lines, for at most [`WRITE_TIMEOUT`] and a second for each [`MIN_WRITE_RATE`] bytes: not for as long as
    /// the client takes a byte now and then, because the lines take memory.
    async fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = Duration::from_secs((lines.len() / MIN_WRITE_RATE) as u64);
        let written = tokio::time::timeout(WRITE_TIMEOUT + more, self.writer.write_all(lines)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Returns an event with the sentence about it.
fn event_and_text(event: &Event) -> Value {
    json!({ "event": event, "text": event.kind.to_string() })
}

/// Returns whether an event is the one that was sent, of which the content is left out.
fn is_same(sent: &Event, event: &Event) -> bool {
    sent.epoch_ms == event.epoch_ms && sent.kind.to_string() == event.kind.to_string()
}

/// Waits until lines for the watcher are due; forever where there is none.
async fn due(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.due().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
