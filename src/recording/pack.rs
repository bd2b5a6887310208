//! Lines to batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    batch::{Batch, FOUND, MAX_ROWS, NO_CONTENT, ROW, SAME_CONTENT, kind},
    columns::Dictionary,
    header::FileHeader,
    known::Known,
    ranks, rounding,
};
use crate::{
    feed::{Counters, Item, Line},
    ids::{Priority, RateLimits},
    telemetry::{Content, Event, EventKind, Progress, StreamSnapshot, UserSnapshot, micros},
};

/// Packs the lines of a segment into batches.
#[derive(Debug)]
pub(super) struct Packer {
    /// What the segment contains so far.
    known: Known,
}

impl Default for Packer {
    fn default() -> Self {
        Self { known: Known::new(FileHeader::VERSION) }
    }
}

impl Packer {
    /// Packs consecutive lines, of which the last one may be a state. Returns those that stay lines, and have to be
    /// written before the batch.
    pub(super) fn pack(&mut self, lines: Vec<Line>) -> (Vec<Line>, Batch) {
        let mut batch = Batch { seq: lines.first().map_or(0, |line| line.seq), ..Batch::default() };
        let mut unpacked = Vec::new();
        for line in lines {
            let (seq, at) = (line.seq, line.at);
            let Some(mut item) = line.into_item() else { continue };
            rounding::round(&mut item);
            let line_of = |item| {
                let mut line = Line::new(seq, item);
                line.at = at;
                line
            };
            let letter = match item {
                Item::Event(event) => {
                    let letter = self.pack_event(&mut batch, &event);
                    self.known.note(&event);
                    if letter.is_none() {
                        unpacked.push(line_of(Item::Event(event)));
                    }
                    letter.unwrap_or(kind::LINE)
                }
                state @ (Item::Snapshot(_) | Item::Changes(_)) => {
                    let rest = self.pack_state(&mut batch, state, at.unwrap_or_default());
                    batch.state = Some(line_of(rest));
                    kind::STATE
                }
                other => {
                    unpacked.push(line_of(other));
                    kind::LINE
                }
            };
            batch.kinds.push(letter);
        }
        batch.shorten();
        (unpacked, batch)
    }

    /// Packs an event. Returns its letter; `None` if it is of another kind, or differs from what is known, so that it
    /// has to be a line.
    fn pack_event(&mut self, batch: &mut Batch, event: &Event) -> Option<char> {
        let known = &mut self.known;
        let time = event.epoch_ms.wrapping_sub(known.last_ms) as i64;
        let letter = match &event.kind {
            EventKind::UserJoined { user, addr, service } => {
                batch.new.addrs.push(*addr);
                let service = known.services.number(service, &mut batch.new.services);
                batch.joined.push([user.bits().into(), service]);
                kind::JOINED
            }
            EventKind::UserLeft { user } => {
                batch.left.push(known.user(*user)?.0);
                kind::LEFT
            }
            EventKind::StreamOpened { key, addr, service } => {
                let (place, user) = known.user(key.user)?;
                if SocketAddr::new(user.addr, addr.port()) != *addr || user.service != *service {
                    return None;
                }
                let stream = i64::from(key.stream.0) - i64::from(user.next_stream);
                batch.opened.push([place, stream, addr.port().into()]);
                kind::OPENED
            }
            EventKind::StreamAssigned { key, proxy, name } => {
                let (age, _) = known.stream(*key)?;
                known.proxies.get(proxy).filter(|known| *known == name)?;
                batch.assigned.push([age, proxy.0.into()]);
                kind::ASSIGNED
            }
            EventKind::StreamEnded {
                key,
                reason,
                shortfall: None,
                down,
                up,
                addr,
                service,
                proxy,
                proxy_name,
                lasted,
                time_to_first_byte,
                content,
            } => {
                let (age, stream) = known.stream(*key)?;
                let name = proxy.as_ref().and_then(|proxy| known.proxies.get(proxy));
                let is_usual = stream.addr == *addr
                    && stream.service == *service
                    && stream.proxy == *proxy
                    && name == proxy_name.as_ref();
                if !is_usual || is_empty_body(content.as_deref()) {
                    return None;
                }
                let between = event.epoch_ms.wrapping_sub(stream.opened_ms).wrapping_mul(1000);
                let lasted = micros::count(*lasted).wrapping_sub(between) as i64 / known.time_unit();
                let down = down.wrapping_sub(expected_down(content.as_deref(), stream.bytes.0)) as i64;
                let first_byte =
                    time_to_first_byte.map_or(0, |time| rounding::first_byte_number(time) as i64 + 1);
                let up = up.wrapping_sub(stream.bytes.1) as i64;
                let last_content = stream.content.clone();
                let reason = known.reasons.number(reason, &mut batch.new.reasons);
                let [content, begun, size] =
                    content_numbers(&mut known.contents, content, &last_content, &mut batch.new.contents);
                batch.ended.push([age, reason, down, up, lasted, first_byte, content, begun, size]);
                kind::ENDED
            }
            _ => return None,
        };
        batch.times.push(time);
        Some(letter)
    }

    /// Packs a state. Returns what is left of it.
    fn pack_state(&mut self, batch: &mut Batch, mut state: Item, at: u64) -> Item {
        match &mut state {
            Item::Snapshot(snapshot) => {
                self.known.begin_snapshot(snapshot, at);
                self.pack_users(batch, &mut snapshot.users);
                self.pack_streams(batch, &mut snapshot.streams);
                self.known.take_grown_users([]);
            }
            Item::Changes(changes) => {
                self.known.begin_changes(changes, at);
                let (mut users, mut streams) =
                    (changes.users.take().unwrap_or_default(), changes.streams.take().unwrap_or_default());
                batch.kept_users = pack_gone(&mut self.known.left, &mut users.gone);
                batch.kept_streams = pack_gone(&mut self.known.ended, &mut streams.gone);
                let new_users: Vec<u64> = users.rows.iter().map(|row| row.number).collect();
                // Streams before users, whose counters grow with those of their streams.
                self.known.note_stream_counters(&streams.counters);
                ranks::pack(&self.known, batch, &mut streams.counters);
                self.pack_streams(batch, &mut streams.rows);
                self.pack_users(batch, &mut users.rows);
                // What differs from what was expected.
                let mut expected = self.known.take_grown_users(new_users);
                expected.values_mut().flatten().for_each(|counter| *counter = counter.wrapping_neg());
                users.counters = add_counters(expected, users.counters.rows());
                (changes.users, changes.streams) = (users.some(), streams.some());
            }
            _ => {}
        }
        state
    }

    /// Packs up to [`MAX_ROWS`] rows of users. Those that differ from what is known stay.
    fn pack_users(&mut self, batch: &mut Batch, rows: &mut Vec<UserSnapshot>) {
        rows.retain(|row| {
            let has_space = batch.users.place.len() < MAX_ROWS;
            let is_packed = has_space && self.pack_user(batch, row);
            if has_space && !is_packed {
                batch.users.push([ROW, 0, 0, 0, 0, 0, 0]);
            }
            self.known.note_user_row(row);
            !is_packed
        });
    }

    /// Packs the row of a user. Returns `false` if it differs from what is known.
    fn pack_user(&mut self, batch: &mut Batch, row: &UserSnapshot) -> bool {
        let known = &mut self.known;
        if row.limits != RateLimits::default()
            || known
                .user(row.id)
                .is_some_and(|(_, user)| user.addr != row.addr || user.service != row.service)
        {
            return false;
        }
        let connected = micros::count(row.connected_at);
        let grown = known.expected_growth(row.id);
        let unexpected = |counter: u64, column: usize| counter.wrapping_sub(grown[column] as u64) as i64;
        let (place, since) = match known.user(row.id) {
            Some((place, user)) => (place, user.joined_ms.map(|joined| known.since_boot(joined))),
            None => {
                batch.new.addrs.push(row.addr);
                let service = known.services.number(&row.service, &mut batch.new.services);
                batch.found_users.push([row.id.bits().into(), service]);
                (FOUND, None)
            }
        };
        batch.users.push([
            place,
            row.number.wrapping_sub(known.last_numbers.1) as i64,
            connected.wrapping_sub(since.unwrap_or(known.last_connected)) as i64 / known.time_unit(),
            unexpected(row.down, 0),
            unexpected(row.up, 1),
            unexpected(row.streams_open, 2),
            unexpected(row.streams_total, 3),
        ]);
        true
    }

    /// Packs up to [`MAX_ROWS`] rows of streams. Those that differ from what is known stay.
    fn pack_streams(&mut self, batch: &mut Batch, rows: &mut Vec<StreamSnapshot>) {
        rows.retain(|row| {
            let has_space = batch.streams.age.len() < MAX_ROWS;
            let is_packed = has_space && self.pack_stream(batch, row).is_some();
            if has_space && !is_packed {
                batch.streams.push([ROW, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            self.known.note_stream_row(row);
            !is_packed
        });
    }

    /// Packs the row of a stream; `None` if it differs from what is known.
    fn pack_stream(&mut self, batch: &mut Batch, row: &StreamSnapshot) -> Option<()> {
        let known = &mut self.known;
        let channel = match row.channel {
            None => 0,
            Some(channel) if Some(channel.proxy) == row.proxy => i64::from(channel.index) + 1,
            Some(_) => return None,
        };
        let body = row.content.as_deref().and_then(Content::body);
        let is_usual = !row.paused
            && row.priority == Priority::default()
            && row.limits == RateLimits::default()
            && (row.progress.is_none() || row.progress == body)
            && !is_empty_body(row.content.as_deref());
        let info = &row.info;
        if !is_usual {
            return None;
        }
        let opened = micros::count(info.opened_at);
        let (age, number, since, (down, up), last_content) = match known.stream(info.key) {
            Some((age, stream)) => {
                if stream.addr != info.addr || stream.service != info.service || stream.proxy != row.proxy {
                    return None;
                }
                let since = stream.opened_at.unwrap_or(known.since_boot(stream.opened_ms));
                let age = if known.expected_stream() == Some(info.key) { 0 } else { age + 1 };
                let number = stream.number.unwrap_or(known.expected_number(stream));
                (age, Some(number), opened.wrapping_sub(since), stream.bytes, stream.content.clone())
            }
            None => {
                let (place, user) = known.user(info.key.user)?;
                if SocketAddr::new(user.addr, info.addr.port()) != info.addr || user.service != info.service {
                    return None;
                }
                let stream = i64::from(info.key.stream.0) - i64::from(user.next_stream);
                let proxy = row.proxy.map_or(0, |proxy| i64::from(proxy.0) + 1);
                batch.found_streams.push([place, stream, info.addr.port().into(), proxy]);
                let uptime = micros::count(known.uptime) / 1000 * 1000;
                (FOUND, None, uptime.wrapping_sub(opened), (0, 0), None)
            }
        };
        let phase = known.phases.number(&row.phase, &mut batch.new.phases);
        let [content, begun, size] =
            content_numbers(&mut known.contents, &row.content, &last_content, &mut batch.new.contents);
        batch.streams.push([
            age,
            row.number.wrapping_sub(number.unwrap_or(known.last_numbers.0)) as i64,
            since as i64 / known.time_unit(),
            row.changes.into(),
            row.down.wrapping_sub(down) as i64,
            row.up.wrapping_sub(up) as i64,
            phase,
            channel,
            content,
            begun,
            size,
            row.progress.is_some().into(),
        ]);
        Some(())
    }
}

/// Removes from `gone`, which is sorted, what was expected to be gone. Returns what was expected and is not.
fn pack_gone(expected: &mut BTreeSet<u64>, gone: &mut Vec<u64>) -> Vec<u64> {
    let expected = std::mem::take(expected);
    let kept = expected.iter().copied().filter(|number| gone.binary_search(number).is_err()).collect();
    gone.retain(|number| !expected.contains(number));
    kept
}

/// Adds counters to those of the same rows. Returns the rows in which any is not 0 then.
pub(super) fn add_counters(
    mut rows: BTreeMap<u64, [i64; Counters::COLUMNS]>,
    added: impl Iterator<Item = (u64, [i64; Counters::COLUMNS])>,
) -> Counters {
    for (number, added) in added {
        let row = rows.entry(number).or_default();
        row.iter_mut().zip(added).for_each(|(counter, added)| *counter = counter.wrapping_add(added));
    }
    let rows: Vec<_> = rows.into_iter().filter(|(_, row)| *row != [0; Counters::COLUMNS]).collect();
    Counters::of(&rows)
}

/// Returns the columns of a content: its number, and the begin and size of its body.
fn content_numbers(
    contents: &mut Dictionary<Content>,
    content: &Option<Arc<Content>>,
    last: &Option<Arc<Content>>,
    new: &mut Vec<Content>,
) -> [i64; 3] {
    let Some(content) = content else { return [NO_CONTENT, 0, 0] };
    if last.as_ref() == Some(content) {
        return [SAME_CONTENT, 0, 0];
    }
    let mut bare = (**content).clone();
    let body = match &mut bare {
        Content::Http { body, .. } => body.take(),
        _ => None,
    };
    let Progress { begun, size } = body.unwrap_or(Progress { begun: 0, size: 0 });
    [contents.number(&bare, new), begun as i64, size as i64]
}

/// Returns whether a content has a body of size 0, which columns cannot express and nothing produces.
fn is_empty_body(content: Option<&Content>) -> bool {
    content.and_then(Content::body).is_some_and(|body| body.size == 0)
}

/// Returns how many bytes a stream with this content has probably downloaded, whose last row had `last`.
pub(super) fn expected_down(content: Option<&Content>, last: u64) -> u64 {
    content.and_then(Content::body).map_or(last, |body| body.begun.wrapping_add(body.size))
}
