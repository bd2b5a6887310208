//! Batches to lines.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
    vec,
};

use super::{
    batch::{Batch, FOUND, MAX_ROWS, NO_CONTENT, New, ROW, SAME_CONTENT, kind},
    columns::{Dictionary, value},
    known::Known,
    pack::{add_counters, expected_down},
    ranks,
    rounding::first_byte,
    unpack_error::Damaged,
};
use crate::{
    feed::{Item, Line},
    ids::{ChannelId, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, UserChannelId},
    telemetry::{
        Content, EndReason, Event, EventKind, Progress, StreamInfo, StreamPhase, StreamSnapshot, StreamState,
        UserSnapshot, micros,
    },
};

/// Unpacks the batches of a segment, line by line: a batch of a few kilobytes can have a million lines.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// What the segment contained so far.
    known: Known,
    /// The batch that is being unpacked; `None` between batches.
    batch: Option<Box<OpenBatch>>,
}

/// A batch that is being unpacked.
#[derive(Debug)]
struct OpenBatch {
    /// Its columns.
    columns: Batch,
    /// The rest of what is new in it.
    new: NewValues,
    /// The rest of the lines before it.
    lines: vec::IntoIter<Line>,
    /// How many of its items were unpacked.
    places: Places,
}

/// The rest of what is new in a batch.
#[derive(Debug)]
struct NewValues {
    /// [`New::addrs`].
    addrs: vec::IntoIter<IpAddr>,
    /// [`New::services`].
    services: vec::IntoIter<ServiceKey>,
    /// [`New::contents`].
    contents: vec::IntoIter<Content>,
    /// [`New::reasons`].
    reasons: vec::IntoIter<EndReason>,
    /// [`New::phases`].
    phases: vec::IntoIter<StreamPhase>,
}

impl From<New> for NewValues {
    fn from(new: New) -> Self {
        let New { addrs, services, contents, reasons, phases } = new;
        Self {
            addrs: addrs.into_iter(),
            services: services.into_iter(),
            contents: contents.into_iter(),
            reasons: reasons.into_iter(),
            phases: phases.into_iter(),
        }
    }
}

/// The number of items of each kind that were unpacked.
#[derive(Debug, Default)]
struct Places {
    /// All of them; also the place of the next letter.
    items: usize,
    /// Events in columns.
    events: usize,
    /// Users that joined.
    joined: usize,
    /// Users that left.
    left: usize,
    /// Streams that were opened.
    opened: usize,
    /// Streams that were assigned.
    assigned: usize,
    /// Streams that ended.
    ended: usize,
}

/// Returns the number and increments it.
fn next(number: &mut usize) -> usize {
    *number += 1;
    *number - 1
}

impl Unpacker {
    /// Returns the unpacker of a segment in this version of the format.
    pub(super) fn new(version: u32) -> Self {
        Self { known: Known::new(version), batch: None }
    }

    /// Begins a batch. `lines` are those before it.
    pub(super) fn begin(&mut self, lines: Vec<Line>, mut batch: Batch) {
        let new = NewValues::from(std::mem::take(&mut batch.new));
        let lines = lines.into_iter();
        self.batch = Some(Box::new(OpenBatch { columns: batch, new, lines, places: Places::default() }));
    }

    /// Unpacks the next line of the batch; `None` after the last one.
    ///
    /// # Errors
    /// The batch does not fit what came before, or its columns do not fit each other.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, Damaged> {
        // What is taken out is put back, except after the last line, and after an error, which ends the segment.
        let Some(mut batch) = self.batch.take() else { return Ok(None) };
        let OpenBatch { columns, new, lines, places } = &mut *batch;
        let place = next(&mut places.items);
        let Some(letter) = columns.kinds.as_bytes().get(place).copied().map(char::from) else {
            return Ok(None);
        };
        let line = match letter {
            kind::LINE => {
                let line = lines.next().ok_or(Damaged)?;
                line.event().into_iter().for_each(|event| self.known.note(event));
                line
            }
            kind::STATE => {
                let state = columns.state.take().ok_or(Damaged)?;
                self.unpack_state(columns, new, state)?
            }
            letter => {
                let time = value(&columns.times, next(&mut places.events))?;
                let epoch_ms = self.known.last_ms.wrapping_add_signed(time);
                let kind = self.unpack_event(columns, new, places, letter, epoch_ms)?;
                let event = Event { epoch_ms, kind };
                self.known.note(&event);
                Line::new(columns.seq.wrapping_add(place as u64), Item::Event(event))
            }
        };
        self.batch = Some(batch);
        Ok(Some(line))
    }

    /// Unpacks the next event of a kind.
    fn unpack_event(
        &mut self,
        batch: &Batch,
        new: &mut NewValues,
        places: &mut Places,
        letter: char,
        epoch_ms: u64,
    ) -> Result<EventKind, Damaged> {
        let known = &mut self.known;
        Ok(match letter {
            kind::JOINED => {
                let [id, service] = batch.joined.row(next(&mut places.joined))?;
                let addr = new.addrs.next().ok_or(Damaged)?;
                let service = known.services.value(service, &mut new.services)?;
                EventKind::UserJoined { user: UserChannelId::new(id as u32), addr, service }
            }
            kind::LEFT => {
                EventKind::UserLeft { user: known.user_at(value(&batch.left, next(&mut places.left))?)?.id }
            }
            kind::OPENED => {
                let [place, stream, port] = batch.opened.row(next(&mut places.opened))?;
                let (key, addr, service) = stream_of(known, place, stream, port)?;
                EventKind::StreamOpened { key, addr, service }
            }
            kind::ASSIGNED => {
                let [age, proxy] = batch.assigned.row(next(&mut places.assigned))?;
                let (key, _) = known.stream_at(age)?;
                let proxy = ProxyId(narrow(proxy)?);
                EventKind::StreamAssigned {
                    key,
                    proxy,
                    name: known.proxies.get(&proxy).ok_or(Damaged)?.clone(),
                }
            }
            kind::ENDED => {
                let [age, reason, down, up, lasted, answered, content, begun, size] =
                    batch.ended.row(next(&mut places.ended))?;
                let reason = known.reasons.value(reason, &mut new.reasons)?;
                let (key, stream) = known.stream_at(age)?;
                let (addr, service, proxy) = (stream.addr, stream.service.clone(), stream.proxy);
                let between = epoch_ms.wrapping_sub(stream.opened_ms).wrapping_mul(1000);
                let ((last_down, last_up), last_content) = (stream.bytes, stream.content.clone());
                let lasted = between.wrapping_add_signed(lasted.wrapping_mul(known.time_unit()));
                let time_to_first_byte = match (answered as u64).wrapping_sub(1) {
                    _ if answered == 0 => None,
                    number if known.has_expectations() => Some(first_byte(number)),
                    micros => Some(Duration::from_micros(micros)),
                };
                let last_up = if known.has_expectations() { last_up } else { 0 };
                let content =
                    content_of(&mut known.contents, [content, begun, size], last_content, &mut new.contents)?;
                EventKind::StreamEnded {
                    key,
                    reason,
                    shortfall: None,
                    down: expected_down(content.as_deref(), last_down).wrapping_add_signed(down),
                    up: last_up.wrapping_add_signed(up),
                    addr,
                    service,
                    proxy,
                    proxy_name: proxy.and_then(|proxy| known.proxies.get(&proxy)).cloned(),
                    lasted: Duration::from_micros(lasted),
                    time_to_first_byte,
                    content,
                }
            }
            _ => return Err(Damaged),
        })
    }

    /// Puts the rows in columns, and those that were expected to be gone, back into a state.
    fn unpack_state(&mut self, batch: &Batch, new: &mut NewValues, state: Line) -> Result<Line, Damaged> {
        let (seq, at) = (state.seq, state.at);
        let mut state = state.into_item();
        match &mut state {
            Some(Item::Snapshot(snapshot)) => {
                self.known.begin_snapshot(snapshot, at.unwrap_or_default());
                snapshot.users = self.unpack_users(batch, new, std::mem::take(&mut snapshot.users))?;
                snapshot.streams = self.unpack_streams(batch, new, std::mem::take(&mut snapshot.streams))?;
                self.known.take_grown_users([]);
            }
            Some(Item::Changes(changes)) => {
                self.known.begin_changes(changes, at.unwrap_or_default());
                let (mut users, mut streams) =
                    (changes.users.take().unwrap_or_default(), changes.streams.take().unwrap_or_default());
                unpack_gone(&mut self.known.left, &batch.kept_users, &mut users.gone);
                unpack_gone(&mut self.known.ended, &batch.kept_streams, &mut streams.gone);
                if self.known.has_expectations() {
                    streams.counters = ranks::unpack(&self.known, batch, streams.counters)?;
                    self.known.note_stream_counters(&streams.counters);
                    streams.rows = self.unpack_streams(batch, new, streams.rows)?;
                    users.rows = self.unpack_users(batch, new, users.rows)?;
                } else {
                    users.rows = self.unpack_users(batch, new, users.rows)?;
                    streams.rows = self.unpack_streams(batch, new, streams.rows)?;
                    self.known.note_stream_counters(&streams.counters);
                }
                let expected = self.known.take_grown_users(users.rows.iter().map(|row| row.number));
                users.counters = add_counters(expected, users.counters.rows());
                (changes.users, changes.streams) = (users.some(), streams.some());
            }
            _ => return Err(Damaged),
        }
        let mut line = Line::new(seq, state.ok_or(Damaged)?);
        line.at = at;
        Ok(line)
    }

    /// Returns the rows of users in their order. `unpacked` are those that are not in columns.
    fn unpack_users(
        &mut self,
        batch: &Batch,
        new: &mut NewValues,
        unpacked: Vec<UserSnapshot>,
    ) -> Result<Vec<UserSnapshot>, Damaged> {
        let (mut unpacked, mut found) = (unpacked.into_iter(), 0);
        let mut rows = Vec::new();
        for row in 0..row_count(&batch.users.place)? {
            let row = batch.users.row(row)?;
            let row = match row[0] {
                ROW => unpacked.next().ok_or(Damaged)?,
                _ => self.unpack_user(batch, new, &mut found, row)?,
            };
            self.known.note_user_row(&row);
            rows.push(row);
        }
        for row in unpacked {
            self.known.note_user_row(&row);
            rows.push(row);
        }
        Ok(rows)
    }

    /// Returns the user of a row in columns.
    fn unpack_user(
        &mut self,
        batch: &Batch,
        new: &mut NewValues,
        found: &mut usize,
        row: [i64; 7],
    ) -> Result<UserSnapshot, Damaged> {
        let [place, number, connected, down, up, open, total] = row;
        let known = &mut self.known;
        let (id, addr, service, since) = if place == FOUND {
            let [id, service] = batch.found_users.row(next(found))?;
            let service = known.services.value(service, &mut new.services)?;
            (UserChannelId::new(id as u32), new.addrs.next().ok_or(Damaged)?, service, None)
        } else {
            let user = known.user_at(place)?;
            (user.id, user.addr, user.service.clone(), user.joined_ms.map(|joined| known.since_boot(joined)))
        };
        let since = since.unwrap_or(known.last_connected);
        let grown = if known.has_expectations() { known.expected_growth(id) } else { [0; 4] };
        let counter = |unexpected: i64, column: usize| unexpected.wrapping_add(grown[column]) as u64;
        Ok(UserSnapshot {
            number: known.last_numbers.1.wrapping_add_signed(number),
            id,
            addr,
            service,
            connected_at: Duration::from_micros(
                since.wrapping_add_signed(connected.wrapping_mul(known.time_unit())),
            ),
            down: counter(down, 0),
            up: counter(up, 1),
            streams_open: counter(open, 2),
            streams_total: counter(total, 3),
            limits: RateLimits::default(),
        })
    }

    /// Returns the rows of streams in their order. `unpacked` are those that are not in columns.
    fn unpack_streams(
        &mut self,
        batch: &Batch,
        new: &mut NewValues,
        unpacked: Vec<StreamSnapshot>,
    ) -> Result<Vec<StreamSnapshot>, Damaged> {
        let (mut unpacked, mut found) = (unpacked.into_iter(), 0);
        let mut rows = Vec::new();
        for row in 0..row_count(&batch.streams.age)? {
            let row = batch.streams.row(row)?;
            let row = match row[0] {
                ROW => unpacked.next().ok_or(Damaged)?,
                _ => self.unpack_stream(batch, new, &mut found, row)?,
            };
            self.known.note_stream_row(&row);
            rows.push(row);
        }
        for row in unpacked {
            self.known.note_stream_row(&row);
            rows.push(row);
        }
        Ok(rows)
    }

    /// Returns the stream of a row in columns.
    fn unpack_stream(
        &mut self,
        batch: &Batch,
        new: &mut NewValues,
        found: &mut usize,
        row: [i64; 12],
    ) -> Result<StreamSnapshot, Damaged> {
        let [age, number, opened, changes, down, up, phase, channel, content, begun, size, progress] = row;
        let known = &mut self.known;
        let (info, proxy, last_number, last_bytes, last_content) = if age == FOUND {
            let [place, stream, port, proxy] = batch.found_streams.row(next(found))?;
            let (key, addr, service) = stream_of(known, place, stream, port)?;
            let unit = known.time_unit();
            let opened = opened.wrapping_mul(unit) as u64;
            let uptime = micros::count(known.uptime) / unit as u64 * unit as u64;
            let opened_at = Duration::from_micros(uptime.wrapping_sub(opened));
            let proxy = if proxy == 0 { None } else { Some(ProxyId(narrow(proxy.wrapping_sub(1))?)) };
            (StreamInfo { key, addr, service, opened_at }, proxy, None, (0, 0), None)
        } else {
            let (key, stream) = known.stream_of_row(age)?;
            let since = stream.opened_at.unwrap_or(known.since_boot(stream.opened_ms));
            let opened_at =
                Duration::from_micros(since.wrapping_add_signed(opened.wrapping_mul(known.time_unit())));
            let info = StreamInfo { key, addr: stream.addr, service: stream.service.clone(), opened_at };
            let number = match stream.number {
                None if known.has_expectations() => Some(known.expected_number(stream)),
                number => number,
            };
            (info, stream.proxy, number, stream.bytes, stream.content.clone())
        };
        let content =
            content_of(&mut known.contents, [content, begun, size], last_content, &mut new.contents)?;
        let channel = match (channel, proxy) {
            (0, _) => None,
            (channel, Some(proxy)) => Some(ChannelId { proxy, index: narrow(channel.wrapping_sub(1))? }),
            _ => return Err(Damaged),
        };
        let state = StreamState {
            key: info.key,
            proxy,
            channel,
            phase: known.phases.value(phase, &mut new.phases)?,
            paused: false,
            priority: Priority::default(),
            limits: RateLimits::default(),
            progress: content.as_deref().and_then(Content::body).filter(|_| progress != 0),
            content,
        };
        let number = last_number.unwrap_or(known.last_numbers.0).wrapping_add_signed(number);
        let mut stream = StreamSnapshot::new(Arc::new(info), number, narrow(changes)?, state);
        stream.down = last_bytes.0.wrapping_add_signed(down);
        stream.up = last_bytes.1.wrapping_add_signed(up);
        Ok(stream)
    }
}

/// Returns how many rows a table has.
///
/// # Errors
/// There are more than are written: each takes 2 bytes there, and 400 in memory.
fn row_count(first_column: &[i64]) -> Result<usize, Damaged> {
    Some(first_column.len()).filter(|rows| *rows <= MAX_ROWS).ok_or(Damaged)
}

/// Returns a number of a smaller type.
fn narrow<T: TryFrom<i64>>(number: i64) -> Result<T, Damaged> {
    T::try_from(number).map_err(|_| Damaged)
}

/// Returns the key, user address and service of a stream.
fn stream_of(
    known: &Known,
    place: i64,
    stream: i64,
    port: i64,
) -> Result<(StreamKey, SocketAddr, ServiceKey), Damaged> {
    let user = known.user_at(place)?;
    let stream = narrow(i64::from(user.next_stream).wrapping_add(stream))?;
    let addr = SocketAddr::new(user.addr, narrow(port)?);
    Ok((StreamKey::new(user.id, stream), addr, user.service.clone()))
}

/// Returns the content of a stream.
fn content_of(
    contents: &mut Dictionary<Content>,
    [number, begun, size]: [i64; 3],
    last: Option<Arc<Content>>,
    new: &mut vec::IntoIter<Content>,
) -> Result<Option<Arc<Content>>, Damaged> {
    match number {
        NO_CONTENT => return Ok(None),
        SAME_CONTENT => return last.ok_or(Damaged).map(Some),
        _ => {}
    }
    let mut content = contents.value(number, new)?;
    if let Content::Http { body, .. } = &mut content {
        let progress = Progress { begun: begun as u64, size: size as u64 };
        *body = (size != 0).then_some(progress);
    }
    Ok(Some(Arc::new(content)))
}

/// Adds to `gone` what was expected to be gone, except for `kept`.
fn unpack_gone(expected: &mut BTreeSet<u64>, kept: &[u64], gone: &mut Vec<u64>) {
    let mut expected = std::mem::take(expected);
    kept.iter().for_each(|number| {
        expected.remove(number);
    });
    gone.extend(expected);
    gone.sort_unstable();
}
