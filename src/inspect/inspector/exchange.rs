//! HTTP/1 exchanges: matches responses to pending requests and decides where the bodies end.

use std::mem;

use super::{
    CachedHead, DirectionState, Examined, MAX_PENDING_REQUESTS, MessageBody, ParsePhase, PendingRequest,
    ProtocolInspector,
};
use crate::{
    ids::Direction,
    inspect::{
        chunked::ChunkedParser,
        http::{HttpFraming, RequestHead, ResponseHead, head_end, parse_request, parse_response},
    },
    telemetry::{Content, Progress},
};

impl ProtocolInspector {
    /// Parses the head of a response in `view`, or takes it from the cache; `start` is the offset of `view` within
    /// the download.
    pub(super) fn examine_response(&mut self, view: &[u8], examined_before: usize, start: u64) -> Examined {
        if let Some((len, response)) = CachedHead::lookup(self.cached_response.as_ref(), view) {
            return self.on_response(response, len, start);
        }
        let Some(len) = head_end(view, examined_before) else { return Examined::Incomplete };
        let head = &view[..len];
        let Some(response) = parse_response(head) else { return self.finish() };
        self.cached_response = CachedHead::new(head, &response);
        self.on_response(response, len, start)
    }

    /// Parses the head of a request in `view`, or takes it from the cache, and reports its request line as soon as
    /// that is complete; `start` is the offset of `view` within the upload.
    pub(super) fn examine_request(&mut self, view: &[u8], examined_before: usize, start: u64) -> Examined {
        if !self.user.is_request_line_reported
            && let Some((len, request)) = CachedHead::lookup(self.cached_request.as_ref(), view)
        {
            return self.on_request_head(request, len, start);
        }
        let Some(len) = head_end(view, examined_before) else {
            // The request line is reported before the head is complete, so that a client that sends its head slowly, or
            // never completes it, is visible.
            if !self.user.is_request_line_reported && memchr::memchr(b'\n', view).is_some() {
                match parse_request(view) {
                    Some(request) => self.on_request_line(request),
                    None => return self.on_unknown_protocol(Direction::Up),
                }
                if let ParsePhase::Finished = self.user.phase {
                    return Examined::NOTHING;
                }
                self.user.is_request_line_reported = true;
            }
            return Examined::Incomplete;
        };
        let head = &view[..len];
        let Some(request) = parse_request(head) else { return self.on_unknown_protocol(Direction::Up) };
        self.cached_request = CachedHead::new(head, &request);
        self.on_request_head(request, len, start)
    }

    /// Handles a complete request head of `len` bytes, which begins at the offset `start` of the upload.
    fn on_request_head(&mut self, request: RequestHead, len: usize, start: u64) -> Examined {
        let framing = request.framing;
        if !mem::take(&mut self.user.is_request_line_reported) {
            self.on_request_line(request);
        } else if let Some(last) = self.pending.back_mut() {
            last.expects_continue = request.expects_continue;
        }
        if let ParsePhase::Finished = self.user.phase {
            return Examined::Parsed { len, skip: 0 };
        }
        match framing {
            HttpFraming::None | HttpFraming::Length(0) => Examined::Parsed { len, skip: 0 },
            HttpFraming::Length(skip) => {
                self.on_body(Direction::Up, start, len, Some(skip));
                Examined::Parsed { len, skip }
            }
            HttpFraming::Chunked => {
                self.on_body(Direction::Up, start, len, None);
                Examined::Parsed { len, skip: 0 }
            }
            HttpFraming::Unknown => {
                self.stop_following(Direction::Up);
                Examined::Parsed { len, skip: 0 }
            }
        }
    }

    /// Adds a request to the pending ones, and reports it if no other request is pending.
    fn on_request_line(&mut self, request: RequestHead) {
        if self.pending.len() == MAX_PENDING_REQUESTS {
            self.finish();
            return;
        }
        self.is_http = true;
        let RequestHead { method, target, expects_continue, .. } = request;
        self.pending.push_back(PendingRequest { method, target, expects_continue });
        if self.pending.len() == 1 && !self.is_responding {
            self.report_oldest_pending();
        }
        // The target sent other data first, so that its responses cannot be recognised.
        if let ParsePhase::Finished = self.target.phase {
            self.finish();
        }
    }

    /// Handles a complete response head of `len` bytes, which begins at the offset `start` of the download.
    fn on_response(&mut self, response: ResponseHead, len: usize, start: u64) -> Examined {
        let status = response.status;
        if matches!(status, 100 | 102..=199) {
            if let Some(request) = self.pending.front_mut() {
                request.expects_continue = false;
            }
            return Examined::Parsed { len, skip: 0 };
        }
        // A response without a request: the target ends an idle connection, for example with 408.
        let Some(PendingRequest { method, target, expects_continue }) = self.pending.pop_front() else {
            return self.finish();
        };
        self.is_responding = true;
        let switches_protocol = status == 101 || &*method == "CONNECT" && (200..300).contains(&status);
        let has_no_body = &*method == "HEAD" || status == 204 || status == 304;
        let body = match response.framing {
            HttpFraming::Length(size) if size > 0 && !has_no_body && !switches_protocol => {
                Some(Progress { begun: start.saturating_add(len as u64), size })
            }
            _ => None,
        };
        self.set_content(Content::Http { method, target, status: Some(status), body });
        // The request was rejected before its body was sent. The client may send the body or not, and the two cannot be
        // told apart.
        if expects_continue && status >= 300 {
            self.stop_following(Direction::Up);
        }
        match (response.framing, body) {
            _ if switches_protocol => self.finish(),
            (_, Some(body)) => {
                self.on_body(Direction::Down, start, len, Some(body.size));
                Examined::Parsed { len, skip: body.size }
            }
            _ if has_no_body => {
                self.on_body_end(Direction::Down);
                Examined::Parsed { len, skip: 0 }
            }
            (HttpFraming::Length(_), None) => {
                self.on_body_end(Direction::Down);
                Examined::Parsed { len, skip: 0 }
            }
            (HttpFraming::Chunked, None) => {
                self.on_body(Direction::Down, start, len, None);
                Examined::Parsed { len, skip: 0 }
            }
            (HttpFraming::None | HttpFraming::Unknown, None) => self.finish(),
        }
    }

    /// Handles the body behind a head of `len` bytes at the offset `start` of a direction: `size` is its size in bytes,
    /// or
    /// `None` in the chunked coding.
    fn on_body(&mut self, direction: Direction, start: u64, len: usize, size: Option<u64>) {
        let side = self.side(direction);
        side.body = Some(MessageBody { begun: start.saturating_add(len as u64), size });
        side.phase = match size {
            Some(_) => ParsePhase::BodyEnd,
            None => ParsePhase::Chunked(ChunkedParser::default()),
        };
    }

    /// Handles the end of a message: the next bytes of the direction are a head.
    pub(super) fn on_body_end(&mut self, direction: Direction) {
        self.side(direction).phase = ParsePhase::Head;
        if direction == Direction::Down {
            self.is_responding = false;
            self.report_oldest_pending();
            self.finish_if_answered();
        }
    }

    /// Stops examining a direction in which the next head cannot be found.
    pub(super) fn stop_following(&mut self, direction: Direction) {
        match direction {
            Direction::Up => {
                self.user = DirectionState::finished();
                self.finish_if_answered();
            }
            // Without responses, pending requests would only accumulate.
            Direction::Down => _ = self.finish(),
        }
    }

    /// Ends detection if requests are not examined any more and the last response is complete.
    pub(super) fn finish_if_answered(&mut self) {
        let ParsePhase::Finished = self.user.phase else { return };
        if self.is_http && !self.is_responding && self.pending.is_empty() {
            self.finish();
        }
    }

    /// Handles an element that is still incomplete at [`MAX_HEAD`](super::MAX_HEAD) bytes.
    pub(super) fn on_oversized_head(&mut self, direction: Direction, view: &[u8]) {
        if let (Direction::Up, ParsePhase::Head) = (direction, &self.user.phase) {
            self.on_unknown_protocol(Direction::Up);
            return;
        }
        // The status is in the first line, so that it can be reported although the head is incomplete.
        if let (Direction::Down, ParsePhase::Head, Some(response)) =
            (direction, &self.target.phase, parse_response(view))
        {
            self.on_response(response, view.len(), 0);
        }
        self.finish();
    }

    /// Reports the oldest request without a response as the stream's content.
    fn report_oldest_pending(&mut self) {
        if let Some(PendingRequest { method, target, .. }) = self.pending.front() {
            let (method, target) = (method.clone(), target.clone());
            self.set_content(Content::Http { method, target, status: None, body: None });
        }
    }
}
