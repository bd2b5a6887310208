use std::{collections::VecDeque, mem, sync::Arc};

use super::{
    first::{Guess, banner, guess, ssh},
    http::{Chunks, Framing, Next, Request, Response, head_end, request, response},
    tls::{Hello, client_hello},
};
use crate::telemetry::{Content, Progress};

/// How much of a head is looked at, and so how much of a direction is ever kept. curl's heads are some hundred bytes,
/// browsers' a few thousand.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// How many requests may wait for their answer. Browsers send one after the other; whoever sends more is measuring.
pub(super) const MAX_WAITING: usize = 32;

/// Reads what a stream carries from the bytes that pass, without a socket, a clock or a lock.
///
/// ```text
///  user   First ─┬─ Head ─┬─ Body ── Head …        target  First ─┬─ Head ─┬─ Body ── Head …
///                │        └─ Chunks ─ Head …                      │        └─ Chunks ─ Head …
///                ├─ Hello ─ Over                                  └─ Banner ─ Over
///                ├─ Banner ─ Over
///                └─ Over
/// ```
///
/// Give it each side's bytes in their order, a request always before its answer. Each call says how many of the
/// *next* bytes of that direction hold nothing to learn: leave those out, and call again once they have passed, with
/// what follows them, even if that is nothing yet. [`take_news`](Self::take_news) tells what it came to; once it
/// [`is_over`](Self::is_over) it can be dropped.
///
/// Whatever it cannot follow (an upgrade, a body up to the end of the connection, nonsense) ends it; what it knows
/// stays. It keeps at most the beginning of one head for each direction, the last whole one if it is short, and the
/// first lines of a few requests.
#[derive(Debug, Default)]
pub struct ProtocolInspector {
    user: Side,
    target: Side,
    /// A request was understood: what the target says is an answer.
    http: bool,
    /// Requests whose answer has not begun, the oldest first.
    waiting: VecDeque<Waiting>,
    /// An answer has begun and not ended.
    answering: bool,
    /// How many bytes will have gone to the user when the next call comes.
    down: u64,
    content: Option<Arc<Content>>,
    /// What it carried before, whose memory the next one takes.
    before: Option<Arc<Content>>,
    news: bool,
    /// What was understood last: over a connection that stays, most requests are alike, and so are their answers.
    request: Option<Known<Request>>,
    response: Option<Known<Response>>,
}

/// The largest head that is kept to be compared with the next.
const MAX_KNOWN: usize = 512;

/// A head that was understood.
#[derive(Debug)]
struct Known<T> {
    head: Box<[u8]>,
    message: T,
}

impl<T: Clone> Known<T> {
    /// What the head at the beginning of `view` says, and where it ends, if it is this one.
    fn again(known: Option<&Self>, view: &[u8]) -> Option<(usize, T)> {
        let Self { head, message } = known?;
        view.starts_with(head).then(|| (head.len(), message.clone()))
    }

    fn of(head: &[u8], message: &T) -> Option<Self> {
        (head.len() <= MAX_KNOWN).then(|| Self { head: head.into(), message: message.clone() })
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    phase: Phase,
    /// The beginning of something that is not all there.
    held: Vec<u8>,
    /// The first line of the head in `held` was understood already.
    line_known: bool,
}

#[derive(Debug, Default)]
enum Phase {
    /// Nothing is known.
    #[default]
    First,
    /// In a TLS ClientHello.
    Hello,
    /// In the line that SSH begins with.
    Banner,
    /// At or in the head of an HTTP message.
    Head,
    /// Behind the body of one.
    Body,
    /// Between the chunks of one.
    Chunks(Chunks),
    /// Nothing more will be.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    User,
    Target,
}

#[derive(Debug)]
struct Waiting {
    method: Arc<str>,
    target: Arc<str>,
    expects: bool,
}

/// What came of a look.
enum Look {
    /// More is needed.
    More,
    /// So many bytes made sense, and so many behind them hold nothing to learn.
    Used(usize, u64),
}

impl ProtocolInspector {
    /// There is nothing more to learn in this direction.
    pub const FOREVER: u64 = u64::MAX;

    /// Takes what the user sends.
    pub fn from_user(&mut self, bytes: &[u8]) -> u64 {
        self.feed(Way::User, bytes)
    }

    /// Takes what the target sends.
    pub fn from_target(&mut self, bytes: &[u8]) -> u64 {
        self.down = self.down.saturating_add(bytes.len() as u64);
        let skip = self.feed(Way::Target, bytes);
        if skip != Self::FOREVER {
            self.down = self.down.saturating_add(skip);
        }
        skip
    }

    /// What the stream carries, if that has changed since it was last asked.
    pub fn take_news(&mut self) -> Option<Arc<Content>> {
        self.content.clone().filter(|_| mem::take(&mut self.news))
    }

    /// Whether nothing more will be learnt in either direction.
    pub fn is_over(&self) -> bool {
        matches!((&self.user.phase, &self.target.phase), (Phase::Over, Phase::Over))
    }

    /// How many bytes it keeps.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let waiting = self.waiting.iter().map(|request| request.method.len() + request.target.len());
        let heads = self.request.as_ref().map_or(0, |known| known.head.len())
            + self.response.as_ref().map_or(0, |known| known.head.len());
        self.user.held.capacity() + self.target.held.capacity() + heads + waiting.sum::<usize>()
    }

    fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::User => &mut self.user,
            Way::Target => &mut self.target,
        }
    }

    fn feed(&mut self, way: Way, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        loop {
            let side = self.side(way);
            match &mut side.phase {
                Phase::Over => return Self::FOREVER,
                Phase::Body => {
                    self.body_over(way);
                    continue;
                }
                Phase::Chunks(chunks) => {
                    let (used, next) = chunks.follow(rest);
                    rest = &rest[used..];
                    match next {
                        Next::More => return 0,
                        Next::Skip(n) => {
                            if let Some(left) = skip(&mut rest, n) {
                                return left;
                            }
                        }
                        Next::End => self.body_over(way),
                        Next::Lost => self.lost(way),
                    }
                    continue;
                }
                // Old clients send an empty line behind a body.
                Phase::Head if side.held.is_empty() => rest = rest.trim_ascii_start(),
                Phase::First | Phase::Hello | Phase::Banner | Phase::Head => {}
            }
            if rest.is_empty() {
                return 0;
            }
            let mut held = mem::take(&mut side.held);
            let known = held.len();
            // Where in the direction the view begins.
            let start = self.down.saturating_sub((known + rest.len()) as u64);
            let taken = rest.len().min(MAX_HEAD - known);
            // What comes in one piece, as nearly every head does, is looked at where it is.
            let view = if known == 0 {
                &rest[..taken]
            } else {
                held.extend_from_slice(&rest[..taken]);
                &held
            };
            match self.look(way, view, known, start) {
                Look::More if view.len() < MAX_HEAD => {
                    self.side(way).held = if known == 0 { view.to_vec() } else { held };
                    return 0;
                }
                Look::More => self.too_long(way, view),
                Look::Used(used, nothing) => {
                    rest = rest.get(used.saturating_sub(known)..).unwrap_or_default();
                    if let Some(left) = skip(&mut rest, nothing) {
                        return left;
                    }
                }
            }
        }
    }

    /// Looks at a direction's next bytes, of which `known` have been looked at before.
    fn look(&mut self, way: Way, view: &[u8], known: usize, start: u64) -> Look {
        match (way, &self.side(way).phase) {
            (_, Phase::First) => {
                let guess = match way {
                    Way::User => guess(view),
                    Way::Target if self.http => Guess::Http,
                    Way::Target => ssh(view),
                };
                self.side(way).phase = match guess {
                    Guess::More => return Look::More,
                    Guess::Http => Phase::Head,
                    Guess::Tls => Phase::Hello,
                    Guess::Ssh => Phase::Banner,
                    Guess::Other => return self.unknown(way),
                };
                self.look(way, view, 0, start)
            }
            (_, Phase::Hello) => match client_hello(view) {
                Hello::More => {
                    self.show(Content::Tls { sni: None });
                    Look::More
                }
                Hello::Name(sni) => {
                    self.show(Content::Tls { sni });
                    self.stop()
                }
            },
            (_, Phase::Banner) => match banner(view) {
                None => {
                    self.show(Content::Ssh { banner: None });
                    Look::More
                }
                banner => {
                    self.show(Content::Ssh { banner });
                    self.stop()
                }
            },
            (Way::User, Phase::Head) => self.look_at_request(view, known),
            (Way::Target, Phase::Head) => self.look_at_response(view, known, start),
            // `feed` comes here with none of these.
            (_, Phase::Body | Phase::Chunks(_) | Phase::Over) => self.stop(),
        }
    }

    fn look_at_response(&mut self, view: &[u8], known: usize, start: u64) -> Look {
        if let Some((end, response)) = Known::again(self.response.as_ref(), view) {
            return self.answered(response, end, start);
        }
        let Some(end) = head_end(view, known) else { return Look::More };
        let head = &view[..end];
        let Some(response) = response(head) else { return self.stop() };
        self.response = Known::of(head, &response);
        self.answered(response, end, start)
    }

    fn look_at_request(&mut self, view: &[u8], known: usize) -> Look {
        if !self.user.line_known
            && let Some((end, request)) = Known::again(self.request.as_ref(), view)
        {
            return self.asked_whole(request, end);
        }
        let Some(end) = head_end(view, known) else {
            // Who sends the rest of it late, or never, is worth seeing all the same.
            if !self.user.line_known && memchr::memchr(b'\n', view).is_some() {
                match request(view) {
                    Some(request) => self.asked(request),
                    None => return self.unknown(Way::User),
                }
                if let Phase::Over = self.user.phase {
                    return Look::Used(0, 0);
                }
                self.user.line_known = true;
            }
            return Look::More;
        };
        let head = &view[..end];
        let Some(request) = request(head) else { return self.unknown(Way::User) };
        self.request = Known::of(head, &request);
        self.asked_whole(request, end)
    }

    /// The user asks for something, with a head that ends at `end`.
    fn asked_whole(&mut self, request: Request, end: usize) -> Look {
        let framing = request.framing;
        if !mem::take(&mut self.user.line_known) {
            self.asked(request);
        } else if let Some(last) = self.waiting.back_mut() {
            last.expects = request.expects;
        }
        if let Phase::Over = self.user.phase {
            return Look::Used(end, 0);
        }
        match framing {
            Framing::Unsaid | Framing::Length(0) => Look::Used(end, 0),
            Framing::Length(n) => {
                self.user.phase = Phase::Body;
                Look::Used(end, n)
            }
            Framing::Chunked => {
                self.user.phase = Phase::Chunks(Chunks::default());
                Look::Used(end, 0)
            }
            Framing::Unclear => {
                self.lost(Way::User);
                Look::Used(end, 0)
            }
        }
    }

    /// The user asks for something.
    fn asked(&mut self, request: Request) {
        if self.waiting.len() == MAX_WAITING {
            self.stop();
            return;
        }
        self.http = true;
        let Request { method, target, expects, .. } = request;
        self.waiting.push_back(Waiting { method, target, expects });
        if self.waiting.len() == 1 && !self.answering {
            self.show_waiting();
        }
        // It spoke first, so that its answers will not be understood.
        if let Phase::Over = self.target.phase {
            self.stop();
        }
    }

    /// The target answers, with a head that ends `end` bytes behind `start`.
    fn answered(&mut self, response: Response, end: usize, start: u64) -> Look {
        let status = response.status;
        if matches!(status, 100 | 102..=199) {
            if let Some(request) = self.waiting.front_mut() {
                request.expects = false;
            }
            return Look::Used(end, 0);
        }
        // Nobody asked: it says goodbye to a connection that was silent for long.
        let Some(Waiting { method, target, expects }) = self.waiting.pop_front() else { return self.stop() };
        self.answering = true;
        let tunnel = status == 101 || &*method == "CONNECT" && (200..300).contains(&status);
        let none = &*method == "HEAD" || status == 204 || status == 304;
        let body = match response.framing {
            Framing::Length(size) if size > 0 && !none && !tunnel => {
                Some(Progress { begun: start.saturating_add(end as u64), size })
            }
            _ => None,
        };
        self.show(Content::Http { method, target, status: Some(status), body });
        // It was refused before it was sent. The user may send it or not, and neither can be told from the other.
        if expects && status >= 300 {
            self.lost(Way::User);
        }
        match (response.framing, body) {
            _ if tunnel => self.stop(),
            (_, Some(body)) => {
                self.target.phase = Phase::Body;
                Look::Used(end, body.size)
            }
            _ if none => {
                self.body_over(Way::Target);
                Look::Used(end, 0)
            }
            (Framing::Length(_), None) => {
                self.body_over(Way::Target);
                Look::Used(end, 0)
            }
            (Framing::Chunked, None) => {
                self.target.phase = Phase::Chunks(Chunks::default());
                Look::Used(end, 0)
            }
            (Framing::Unsaid | Framing::Unclear, None) => self.stop(),
        }
    }

    fn body_over(&mut self, way: Way) {
        self.side(way).phase = Phase::Head;
        if way == Way::Target {
            self.answering = false;
            self.show_waiting();
            self.settle();
        }
    }

    /// This direction can't be followed any further.
    fn lost(&mut self, way: Way) {
        match way {
            Way::User => {
                self.user = Side { phase: Phase::Over, ..Side::default() };
                self.settle();
            }
            // Without answers, requests would only pile up.
            Way::Target => _ = self.stop(),
        }
    }

    /// Without a user that is followed, the last answer is the last thing to learn.
    fn settle(&mut self) {
        let Phase::Over = self.user.phase else { return };
        if self.http && !self.answering && self.waiting.is_empty() {
            self.stop();
        }
    }

    /// These bytes are nothing that we know. Before the first request that says what the stream carries.
    fn unknown(&mut self, way: Way) -> Look {
        if self.content.is_none() {
            self.show(Content::Tcp);
        }
        self.side(way).phase = Phase::Over;
        self.settle();
        Look::Used(0, 0)
    }

    /// A head, or what stands for one, does not end where it should.
    fn too_long(&mut self, way: Way, view: &[u8]) {
        if let (Way::User, Phase::Head) = (way, &self.user.phase) {
            self.unknown(Way::User);
            return;
        }
        // The status stands in the first line.
        if let (Way::Target, Phase::Head, Some(response)) = (way, &self.target.phase, response(view)) {
            self.answered(response, view.len(), 0);
        }
        self.stop();
    }

    /// Nothing more is to be learnt; what is known stays.
    fn stop(&mut self) -> Look {
        self.user = Side { phase: Phase::Over, ..Side::default() };
        self.target = Side { phase: Phase::Over, ..Side::default() };
        self.waiting = VecDeque::new();
        (self.request, self.response) = (None, None);
        Look::Used(0, 0)
    }

    fn show_waiting(&mut self) {
        if let Some(Waiting { method, target, .. }) = self.waiting.front() {
            let (method, target) = (method.clone(), target.clone());
            self.show(Content::Http { method, target, status: None, body: None });
        }
    }

    fn show(&mut self, content: Content) {
        if self.content.as_deref() == Some(&content) {
            return;
        }
        let mut next = self.before.take();
        match next.as_mut().and_then(Arc::get_mut) {
            Some(place) => *place = content,
            // Somebody looks at it.
            None => next = Some(Arc::new(content)),
        }
        self.before = mem::replace(&mut self.content, next);
        self.news = true;
    }
}

/// Leaves out the next `n` bytes; how many of them are not there yet, if any.
fn skip(rest: &mut &[u8], n: u64) -> Option<u64> {
    let there = usize::try_from(n).unwrap_or(usize::MAX).min(rest.len());
    *rest = &rest[there..];
    (n > there as u64).then_some(n - there as u64)
}
