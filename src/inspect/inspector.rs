//! The parser of protocol detection: state of both directions, buffering of incomplete heads, detected content.

use std::{collections::VecDeque, mem, sync::Arc};

use super::{
    chunked::{ChunkedEvent, ChunkedParser},
    detect::{DetectedProtocol, detect_client, detect_ssh, ssh_banner},
    http::{RequestHead, ResponseHead},
    tls::{ClientHelloResult, parse_client_hello},
};
use crate::{
    ids::Direction,
    telemetry::{Content, Shortfall, TransferEnd},
};

mod exchange;

/// The longest head that is examined, in bytes, and so the most that is buffered of a direction. Heads of curl have
/// some hundred bytes, those of browsers a few thousand.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// The most pipelined requests without a response. Browsers do not pipeline; clients that pipeline more are load
/// generators.
pub(super) const MAX_PENDING_REQUESTS: usize = 32;

/// The longest head that is cached for comparison with the next one, in bytes.
const MAX_CACHED_HEAD: usize = 512;

/// Detects what a stream carries, from the bytes of both directions. Has no socket, clock or lock.
///
/// ```text
///  user   Start ─┬─ Head ─┬─ BodyEnd ─ Head …      target  Start ─┬─ Head ─┬─ BodyEnd ─ Head …
///                │        └─ Chunked ─ Head …                     │        └─ Chunked ─ Head …
///                ├─ ClientHello ─ Finished                        └─ SshBanner ─ Finished
///                ├─ SshBanner ─── Finished
///                └─ Finished
/// ```
///
/// The caller passes the bytes of each direction in order, and every request before its response. Each call returns how
/// many of the *next* bytes of that direction need not be examined: the caller skips those, and calls again once they
/// have passed, with the bytes behind them, even if there are none yet. [`take_update`](Self::take_update) returns the
/// detected content. Once [`is_finished`](Self::is_finished) returns `true`, the inspector can be dropped.
///
/// Anything that it cannot follow (an upgrade, a body that ends with the connection, invalid data) ends detection; the
/// detected content stays. It buffers at most the beginning of one head for each direction, the last complete head if
/// it is short, and the request lines of at most `MAX_PENDING_REQUESTS` requests.
#[derive(Debug, Default)]
pub struct ProtocolInspector {
    /// Parser state of the upload: bytes from the user.
    user: DirectionState,
    /// Parser state of the download: bytes from the target.
    target: DirectionState,
    /// Whether an HTTP request was parsed, so that the target's bytes are responses.
    is_http: bool,
    /// Requests whose response has not begun, oldest first.
    pending: VecDeque<PendingRequest>,
    /// Whether a response has begun and is not complete.
    is_responding: bool,
    /// The detected protocol and request; `None` while undetected.
    content: Option<Arc<Content>>,
    /// The content detected before `content`, whose allocation is reused for the next one.
    previous_content: Option<Arc<Content>>,
    /// Whether `content` has changed since the last [`take_update`](Self::take_update).
    has_update: bool,
    /// The last request head: on a keep-alive connection most requests are equal, and so are their responses.
    cached_request: Option<CachedHead<RequestHead>>,
    /// The last response head, for comparison with the next one.
    cached_response: Option<CachedHead<ResponseHead>>,
}

/// A head that was parsed, with the result.
#[derive(Debug)]
struct CachedHead<T> {
    /// The bytes of the head.
    bytes: Box<[u8]>,
    /// The result of parsing the cached head.
    parsed: T,
}

impl<T: Clone> CachedHead<T> {
    /// If `view` begins with the cached head, returns its length in bytes and its parsed form.
    fn lookup(cached: Option<&Self>, view: &[u8]) -> Option<(usize, T)> {
        let Self { bytes, parsed } = cached?;
        view.starts_with(bytes).then(|| (bytes.len(), parsed.clone()))
    }

    /// Caches a head if it is short enough.
    fn new(head: &[u8], parsed: &T) -> Option<Self> {
        (head.len() <= MAX_CACHED_HEAD).then(|| Self { bytes: head.into(), parsed: parsed.clone() })
    }
}

/// The parser state of one direction.
#[derive(Debug, Default)]
struct DirectionState {
    /// What the next bytes are expected to be.
    phase: ParsePhase,
    /// The received part of an element (HTTP head, ClientHello, SSH banner) that is incomplete.
    buffered: Vec<u8>,
    /// Whether the request line of the incomplete head in `buffered` was already reported.
    is_request_line_reported: bool,
    /// The offset within the direction at which the bytes that the inspector gets next begin.
    offset: u64,
    /// The body that the last head announced; `None` before the first one.
    body: Option<MessageBody>,
}

/// The position of a body within its direction.
#[derive(Debug, Clone, Copy)]
struct MessageBody {
    /// The offset within the direction at which the body begins.
    begun: u64,
    /// The size of the body in bytes; `None` in the chunked coding.
    size: Option<u64>,
}

impl DirectionState {
    /// Creates the state of a direction that is not examined any more; nothing is buffered.
    fn finished() -> Self {
        Self { phase: ParsePhase::Finished, ..Self::default() }
    }
}

/// What the next bytes of a direction are expected to be.
#[derive(Debug, Default)]
enum ParsePhase {
    /// The first bytes, by which the protocol is detected.
    #[default]
    Start,
    /// A TLS ClientHello.
    ClientHello,
    /// The SSH identification string.
    SshBanner,
    /// The head of an HTTP message, or part of it.
    Head,
    /// The position directly behind a body of known length, whose bytes were skipped.
    BodyEnd,
    /// The position between two chunks of a body.
    Chunked(ChunkedParser),
    /// Nothing more is examined.
    Finished,
}

/// A request whose response has not begun.
#[derive(Debug)]
struct PendingRequest {
    /// The request method, such as `GET`.
    method: Arc<str>,
    /// The request target without its query and fragment, sanitized.
    target: Arc<str>,
    /// Whether the client may wait for "100 Continue" before it sends the body.
    expects_continue: bool,
}

/// The result of examining the next bytes of a direction.
enum Examined {
    /// The element is incomplete: buffer the bytes.
    Incomplete,
    /// An element was parsed.
    Parsed {
        /// How many bytes, including those that were buffered, it consists of.
        len: usize,
        /// How many bytes behind it need not be examined.
        skip: u64,
    },
}

impl Examined {
    /// Nothing was consumed; the direction's phase has changed.
    const NOTHING: Self = Self::Parsed { len: 0, skip: 0 };
}

impl ProtocolInspector {
    /// The number of bytes to skip that means: all further bytes of the direction.
    pub const SKIP_ALL: u64 = u64::MAX;

    /// Examines bytes that the user sent. Returns how many of the next upload bytes to skip.
    pub fn from_user(&mut self, bytes: &[u8]) -> u64 {
        self.feed(Direction::Up, bytes)
    }

    /// Examines bytes that the target sent. Returns how many of the next download bytes to skip.
    pub fn from_target(&mut self, bytes: &[u8]) -> u64 {
        self.feed(Direction::Down, bytes)
    }

    /// Returns whether the message is complete within which a stream ends now, as far as that is known. The arguments
    /// are the bytes of each direction that are still to be skipped.
    pub fn transfer_end(&self, upload_skip: u64, download_skip: u64) -> Option<TransferEnd> {
        let download = Self::shortfall(Direction::Down, &self.target, download_skip);
        // The upload is of no interest any more once its response is complete.
        let is_unanswered = self.is_responding || !self.pending.is_empty();
        let upload = Self::shortfall(Direction::Up, &self.user, upload_skip).filter(|_| is_unanswered);
        let is_complete = self.is_http && !is_unanswered && matches!(self.target.phase, ParsePhase::Head);
        download.or(upload).map(TransferEnd::Short).or(is_complete.then_some(TransferEnd::Complete))
    }

    /// Returns how far the body of a direction has come of which `skip` more bytes are to be skipped; `None` if it is
    /// complete, or none is known.
    fn shortfall(direction: Direction, side: &DirectionState, skip: u64) -> Option<Shortfall> {
        let (ParsePhase::BodyEnd | ParsePhase::Chunked(_)) = side.phase else { return None };
        let MessageBody { begun, size } = side.body?;
        let transferred = side.offset.saturating_sub(begun).saturating_sub(skip);
        Some(Shortfall { direction, transferred, size, is_user_closed: false })
    }

    /// Returns the detected content if it has changed since the last call.
    pub fn take_update(&mut self) -> Option<Arc<Content>> {
        self.content.clone().filter(|_| mem::take(&mut self.has_update))
    }

    /// Returns whether nothing more will be detected in either direction.
    pub fn is_finished(&self) -> bool {
        matches!((&self.user.phase, &self.target.phase), (ParsePhase::Finished, ParsePhase::Finished))
    }

    /// Returns how many bytes of the peers are buffered.
    pub(super) fn buffered_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|request| request.method.len() + request.target.len());
        let heads = self.cached_request.as_ref().map_or(0, |cached| cached.bytes.len())
            + self.cached_response.as_ref().map_or(0, |cached| cached.bytes.len());
        self.user.buffered.capacity() + self.target.buffered.capacity() + heads + pending.sum::<usize>()
    }

    /// Returns the parser state of one direction.
    fn side(&mut self, direction: Direction) -> &mut DirectionState {
        match direction {
            Direction::Up => &mut self.user,
            Direction::Down => &mut self.target,
        }
    }

    /// Examines the next bytes of a direction. Returns how many of those behind them to skip.
    fn feed(&mut self, direction: Direction, bytes: &[u8]) -> u64 {
        let side = self.side(direction);
        side.offset = side.offset.saturating_add(bytes.len() as u64);
        let skip = self.follow(direction, bytes);
        if skip != Self::SKIP_ALL {
            let side = self.side(direction);
            side.offset = side.offset.saturating_add(skip);
        }
        skip
    }

    /// Examines the next bytes of a direction, behind which its offset is already. Returns how many of those behind
    /// them to skip.
    fn follow(&mut self, direction: Direction, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        loop {
            let side = self.side(direction);
            match &mut side.phase {
                ParsePhase::Finished => return Self::SKIP_ALL,
                ParsePhase::BodyEnd => {
                    self.on_body_end(direction);
                    continue;
                }
                ParsePhase::Chunked(parser) => {
                    let (parsed, event) = parser.parse(rest);
                    rest = &rest[parsed..];
                    match event {
                        ChunkedEvent::Incomplete => return 0,
                        ChunkedEvent::SkipChunk(n) => {
                            if let Some(left) = skip_bytes(&mut rest, n) {
                                return left;
                            }
                        }
                        ChunkedEvent::End => self.on_body_end(direction),
                        ChunkedEvent::Invalid => self.stop_following(direction),
                    }
                    continue;
                }
                // Old clients send an empty line behind a body.
                ParsePhase::Head if side.buffered.is_empty() => rest = rest.trim_ascii_start(),
                ParsePhase::Start | ParsePhase::ClientHello | ParsePhase::SshBanner | ParsePhase::Head => {}
            }
            if rest.is_empty() {
                return 0;
            }
            let mut buffered = mem::take(&mut side.buffered);
            let examined_before = buffered.len();
            // The offset within the direction at which `view` begins.
            let start = side.offset.saturating_sub((examined_before + rest.len()) as u64);
            let taken = rest.len().min(MAX_HEAD - examined_before);
            // Nearly every head arrives in one piece and is examined in place, without copying.
            let view = if examined_before == 0 {
                &rest[..taken]
            } else {
                buffered.extend_from_slice(&rest[..taken]);
                &buffered
            };
            match self.examine(direction, view, examined_before, start) {
                Examined::Incomplete if view.len() < MAX_HEAD => {
                    self.side(direction).buffered =
                        if examined_before == 0 { view.to_vec() } else { buffered };
                    return 0;
                }
                Examined::Incomplete => self.on_oversized_head(direction, view),
                Examined::Parsed { len, skip } => {
                    rest = rest.get(len.saturating_sub(examined_before)..).unwrap_or_default();
                    if let Some(left) = skip_bytes(&mut rest, skip) {
                        return left;
                    }
                }
            }
        }
    }

    /// Examines `view`, the next bytes of a direction, of which the first `examined_before` were examined before.
    /// `start` is the offset of `view` in its direction.
    fn examine(&mut self, direction: Direction, view: &[u8], examined_before: usize, start: u64) -> Examined {
        match (direction, &self.side(direction).phase) {
            (_, ParsePhase::Start) => {
                let detected = match direction {
                    Direction::Up => detect_client(view),
                    Direction::Down if self.is_http => DetectedProtocol::Http,
                    Direction::Down => detect_ssh(view),
                };
                self.side(direction).phase = match detected {
                    DetectedProtocol::Incomplete => return Examined::Incomplete,
                    DetectedProtocol::Http => ParsePhase::Head,
                    DetectedProtocol::Tls => ParsePhase::ClientHello,
                    DetectedProtocol::Ssh => ParsePhase::SshBanner,
                    DetectedProtocol::Other => return self.on_unknown_protocol(direction),
                };
                self.examine(direction, view, 0, start)
            }
            (_, ParsePhase::ClientHello) => match parse_client_hello(view) {
                ClientHelloResult::Incomplete => {
                    self.set_content(Content::Tls { sni: None });
                    Examined::Incomplete
                }
                ClientHelloResult::ServerName(sni) => {
                    self.set_content(Content::Tls { sni });
                    self.finish()
                }
            },
            (_, ParsePhase::SshBanner) => match ssh_banner(view) {
                None => {
                    self.set_content(Content::Ssh { banner: None });
                    Examined::Incomplete
                }
                banner => {
                    self.set_content(Content::Ssh { banner });
                    self.finish()
                }
            },
            (Direction::Up, ParsePhase::Head) => self.examine_request(view, examined_before, start),
            (Direction::Down, ParsePhase::Head) => self.examine_response(view, examined_before, start),
            // `feed` handles these phases itself.
            (_, ParsePhase::BodyEnd | ParsePhase::Chunked(_) | ParsePhase::Finished) => self.finish(),
        }
    }

    /// Handles bytes of no known protocol. Before the first request this means that the stream carries other TCP data.
    fn on_unknown_protocol(&mut self, direction: Direction) -> Examined {
        if self.content.is_none() {
            self.set_content(Content::Tcp);
        }
        self.side(direction).phase = ParsePhase::Finished;
        self.finish_if_answered();
        Examined::NOTHING
    }

    /// Ends detection in both directions and frees all buffers. The detected content stays.
    fn finish(&mut self) -> Examined {
        self.user = DirectionState::finished();
        self.target = DirectionState::finished();
        self.pending = VecDeque::new();
        (self.cached_request, self.cached_response) = (None, None);
        Examined::NOTHING
    }

    /// Replaces the detected content, reusing the allocation of the one before the last if no reader holds it.
    fn set_content(&mut self, content: Content) {
        if self.content.as_deref() == Some(&content) {
            return;
        }
        let mut next = self.previous_content.take();
        match next.as_mut().and_then(Arc::get_mut) {
            Some(slot) => *slot = content,
            None => next = Some(Arc::new(content)),
        }
        self.previous_content = mem::replace(&mut self.content, next);
        self.has_update = true;
    }
}

/// Removes the next `n` bytes from `rest`. If `rest` has fewer, returns how many are left to skip.
fn skip_bytes(rest: &mut &[u8], n: u64) -> Option<u64> {
    let available = usize::try_from(n).unwrap_or(usize::MAX).min(rest.len());
    *rest = &rest[available..];
    (n > available as u64).then_some(n - available as u64)
}
