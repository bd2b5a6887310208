use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    meter::{Meters, SampleClock},
    order::{Sort, compare_texts, place},
    row::{Row, RowId},
};
use crate::{
    ids::{ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{Carries, EndReason, StreamPhase, StreamSnapshot},
};

/// How many ended streams are kept, and for how long. Whichever bound is reached first; what the first one drops is
/// counted on screen.
const MAX_ENDED: usize = 1000;
const KEEP_ENDED: Duration = Duration::from_secs(300);
/// For how many streams of a snapshot the rows are looked up before any of them is brought up to date. Rows lie far
/// apart in memory: one by one, most of a sample was waiting for each; several are waited for at once.
const AHEAD: usize = 16;
/// Rows change places this often at most.
const RERANK: Duration = Duration::from_secs(1);

/// Every stream that is open, and the last ones that ended, in the order of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Row>>,
    free: Vec<u32>,
    by_key: HashMap<StreamKey, RowId>,
    order: Vec<RowId>,
    /// The first part of the order: the open ones, and those that ended and have not sunk.
    ranked: Vec<Ranked>,
    /// The second part: those that ended, the last one first.
    sunk: VecDeque<RowId>,
    /// By slot, the serial of the row that stands in the first part; 0 where none does. Rows are large, and most ticks
    /// need to know no more of them than this.
    standing: Vec<u64>,
    /// Where the last snapshot's streams were found, in its order: the next one's mostly is the same.
    hints: Vec<RowId>,
    added: Vec<Ranked>,
    ended: VecDeque<RowId>,
    /// Those that ended and still stand among the open ones.
    floating: Vec<RowId>,
    /// The one row that keeps its place although its stream ended: the operator has it selected.
    pinned: Option<RowId>,
    sort: Sort,
    clock: SampleClock,
    meters: Meters,
    sample: u64,
    next_serial: u64,
    live: usize,
    dropped: u64,
    /// Something has left a part of the order.
    left: bool,
    reranked: Option<Instant>,
}

/// A row among the open ones, and all that is needed to sort it.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    place: u64,
    serial: u64,
    slot: u32,
}

impl Ranked {
    fn id(self) -> RowId {
        RowId { slot: self.slot, serial: self.serial }
    }
}

impl Streams {
    /// The row, if it is still kept.
    pub(crate) fn get(&self, id: RowId) -> Option<&Row> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|row| row.serial == id.serial)
    }

    pub(crate) fn get_mut(&mut self, id: RowId) -> Option<&mut Row> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|row| row.serial == id.serial)
    }

    /// The newest row with this key.
    #[cfg(test)]
    pub(crate) fn find(&self, key: StreamKey) -> Option<RowId> {
        self.by_key.get(&key).copied()
    }

    /// The rows in the order of the table: the open ones, then the ended ones.
    pub(crate) fn order(&self) -> &[RowId] {
        &self.order
    }

    /// Keeps this row where it is, should its stream end: a row must not jump away from under the selection.
    pub(crate) fn pin(&mut self, id: Option<RowId>) {
        self.pinned = id;
    }

    /// Lets the row that was kept go where it belongs.
    pub(crate) fn unpin(&mut self) {
        self.pinned = None;
        self.sink();
        self.put_in_order(false);
    }

    /// How many of [`order`](Self::order) come before the ended ones.
    pub(crate) fn unsettled(&self) -> usize {
        self.ranked.len()
    }

    /// When the rows last noted a second of their past.
    pub(crate) fn last_second(&self) -> Option<Instant> {
        self.reranked
    }

    /// Where in the last snapshot this row's stream was.
    pub(crate) fn in_snapshot(&self, id: RowId) -> Option<usize> {
        self.hints.iter().position(|hint| *hint == id)
    }

    /// The open streams of these users, by user and number. The register of keys is small beside the rows.
    pub(crate) fn of_users(&self, users: &[UserChannelId]) -> Vec<(StreamKey, RowId)> {
        let theirs = self.by_key.iter().filter(|(key, _)| users.contains(&key.user));
        let mut streams: Vec<_> = theirs
            .filter(|(_, id)| self.get(**id).is_some_and(Row::is_live))
            .map(|(key, id)| (*key, *id))
            .collect();
        streams.sort_unstable_by_key(|(key, _)| *key);
        streams
    }

    /// How many are open.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// How many ended ones are kept.
    pub(crate) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// How many ended ones had to make room for newer ones.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn sort(&self) -> Sort {
        self.sort
    }

    /// Sorts by something else, at once.
    pub(crate) fn set_sort(&mut self, sort: Sort, now: Instant) {
        self.sort = sort;
        self.reranked = None;
        self.settle(now);
    }

    /// A stream opened.
    pub(crate) fn opened(&mut self, key: StreamKey, addr: SocketAddr, service: &ServiceKey, now: Instant) {
        // A snapshot may have shown it before its event came.
        if !self.by_key.get(&key).and_then(|id| self.get(*id)).is_some_and(Row::is_live) {
            self.insert(key, addr, service.clone(), now);
        }
    }

    /// A proxy was chosen for a stream.
    pub(crate) fn assigned(&mut self, key: StreamKey, proxy: ProxyId) {
        let Some(row) = self.by_key.get(&key).copied().and_then(|id| self.get_mut(id)) else { return };
        if row.is_live() {
            row.proxy = Some(proxy);
            if row.phase == StreamPhase::Waiting {
                row.phase = StreamPhase::Opening;
            }
        }
    }

    /// A stream ended.
    pub(crate) fn over(
        &mut self,
        key: StreamKey,
        reason: &EndReason,
        (down, up): (u64, u64),
        carries: Option<&Arc<Carries>>,
        now: Instant,
    ) {
        let Some(&id) = self.by_key.get(&key) else { return };
        let Some(row) = self.get_mut(id) else { return };
        let untold = row.ended.as_ref().is_none_or(|ended| ended.reason.is_none());
        if untold && let Some(carries) = carries {
            row.carries = Some(carries.clone());
        }
        if row.is_live() {
            (row.down, row.up) = (down, up);
            self.end(id, Some(reason.clone()), now);
        } else if untold {
            (row.down, row.up) = (down, up);
            row.end(now, Some(reason.clone()));
        }
    }

    /// Takes what a snapshot says about every stream.
    ///
    /// One that two snapshots in a row do not name has ended: should the event have been lost, no ghost stays behind.
    /// Not the first time, because the event of one that ended just before the snapshot is still on its way, and
    /// tells why.
    pub(crate) fn sample(&mut self, snapshots: &[StreamSnapshot], now: Instant) {
        self.clock.tick(now);
        self.sample += 1;
        let mut hints = std::mem::take(&mut self.hints);
        hints.resize(snapshots.len(), RowId { slot: u32::MAX, serial: 0 });
        let mut seen = 0;
        for (snapshots, hints) in snapshots.chunks(AHEAD).zip(hints.chunks_mut(AHEAD)) {
            let mut hinted = [false; AHEAD];
            for ((snapshot, hint), hinted) in snapshots.iter().zip(&*hints).zip(&mut hinted) {
                *hinted = self.is_at(snapshot, *hint);
            }
            for ((snapshot, hint), hinted) in snapshots.iter().zip(hints).zip(hinted) {
                if snapshot.phase == StreamPhase::Ended {
                    continue;
                }
                if !hinted {
                    *hint = self.place_of(snapshot, now);
                }
                let slot = hint.slot as usize;
                if let Some(Some(row)) = self.slots.get_mut(slot) {
                    let anew = row.noted + 1 != self.sample;
                    (row.seen, row.noted) = (self.sample, self.sample);
                    seen += 1;
                    let bytes = (snapshot.down, snapshot.up);
                    row.sample(snapshot, self.meters.note(&self.clock, slot, anew, bytes));
                }
            }
        }
        self.hints = hints;
        // Mostly each of them was named: then there is no need to look for others.
        let slots = if seen == self.live { 0 } else { self.slots.len() };
        for slot in 0..slots {
            if let Some(row) = &self.slots[slot]
                && row.is_live()
                && row.seen + 1 < self.sample
            {
                let id = RowId { slot: slot as u32, serial: row.serial };
                self.end(id, None, now);
            }
        }
        self.settle(now);
    }

    /// Whether the row of this stream is there for sure.
    fn is_at(&self, snapshot: &StreamSnapshot, hint: RowId) -> bool {
        self.get(hint).is_some_and(|row| row.is_now(snapshot))
    }

    /// The row of this stream, which may be new.
    fn place_of(&mut self, snapshot: &StreamSnapshot, now: Instant) -> RowId {
        if let Some(&known) = self.by_key.get(&snapshot.key)
            && let Some(row) = self.get(known)
            && row.is_live()
        {
            if row.is_of(snapshot) {
                return known;
            }
            // Another stream has its key already, so its own end was missed.
            self.end(known, None, now);
        }
        // An end is told only after the stream has left the register: this is a new one, maybe with the key of another.
        self.insert(snapshot.key, snapshot.info.addr, snapshot.info.user.service.key.clone(), now)
    }

    fn insert(&mut self, key: StreamKey, addr: SocketAddr, service: ServiceKey, now: Instant) -> RowId {
        self.next_serial += 1;
        let mut row = Row::new(key, self.next_serial, addr, service, now);
        row.seen = self.sample;
        row.place = place(&row, self.sort);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.standing.push(0);
            self.meters.reserve(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        let ranked = Ranked { place: row.place, serial: row.serial, slot };
        self.standing[slot as usize] = row.serial;
        self.slots[slot as usize] = Some(row);
        self.by_key.insert(key, ranked.id());
        self.added.push(ranked);
        self.live += 1;
        ranked.id()
    }

    fn end(&mut self, id: RowId, reason: Option<EndReason>, now: Instant) {
        if let Some(row) = self.get_mut(id).filter(|row| row.is_live()) {
            row.end(now, reason);
            self.live -= 1;
            self.ended.push_back(id);
            self.floating.push(id);
        }
    }

    /// Forgets what is too old and puts the rest in order. Without anything new this costs nothing.
    fn settle(&mut self, now: Instant) {
        self.forget(now);
        self.sink();
        let rerank = self.reranked.is_none_or(|at| now.saturating_duration_since(at) >= RERANK);
        if rerank {
            let second = self.reranked.is_some();
            for row in self.slots.iter_mut().flatten().filter(|row| !row.sunk) {
                if second {
                    row.second();
                }
                row.place = place(row, self.sort);
            }
            self.reranked = Some(now);
        }
        self.put_in_order(rerank);
    }

    /// Brings the order up to date with what came and went, and with the rows' places where those are new.
    fn put_in_order(&mut self, places: bool) {
        if !places && !self.left && self.added.is_empty() {
            return;
        }
        let (slots, standing, sort) = (&self.slots, &self.standing, self.sort);
        let row = |ranked: &Ranked| slots.get(ranked.slot as usize).and_then(Option::as_ref);
        self.ranked.append(&mut self.added);
        self.ranked.retain(|ranked| standing[ranked.slot as usize] == ranked.serial);
        if places {
            for ranked in &mut self.ranked {
                ranked.place = row(ranked).map_or(u64::MAX, |row| row.place);
            }
        }
        // Nearly sorted already, which the stable sort makes use of. Those of one rank stand as they came.
        if sort.has_texts() {
            self.ranked.sort_by(|a, b| {
                let texts = || match (row(a), row(b)) {
                    (Some(a), Some(b)) => compare_texts(a, b, sort),
                    _ => Ordering::Equal,
                };
                a.place.cmp(&b.place).then_with(texts).then(a.serial.cmp(&b.serial))
            });
        } else {
            self.ranked.sort_by_key(|ranked| (ranked.place, ranked.serial));
        }
        self.order.clear();
        self.order.extend(self.ranked.iter().map(|ranked| ranked.id()));
        self.order.extend(&self.sunk);
        self.left = false;
    }

    /// Lets ended rows go below the open ones, but for the selected one.
    fn sink(&mut self) {
        for id in std::mem::take(&mut self.floating) {
            if self.pinned == Some(id) {
                self.floating.push(id);
            } else if let Some(row) = self.get_mut(id) {
                row.sunk = true;
                self.standing[id.slot as usize] = 0;
                self.sunk.push_front(id);
                self.left = true;
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&id) = self.ended.front() {
            let too_many = self.ended.len() > MAX_ENDED;
            let ended = self.get(id).and_then(|row| row.ended.as_ref());
            let too_old = ended.is_none_or(|ended| now.saturating_duration_since(ended.at) >= KEEP_ENDED);
            if !too_many && !too_old {
                break;
            }
            self.dropped += u64::from(!too_old);
            self.ended.pop_front();
            if let Some(row) = self.slots.get_mut(id.slot as usize).and_then(Option::take) {
                self.free.push(id.slot);
                self.left = true;
                if row.sunk {
                    // Mostly the last one: they sink about as they end.
                    self.sunk.iter().rposition(|sunk| *sunk == id).map(|at| self.sunk.remove(at));
                } else {
                    self.standing[id.slot as usize] = 0;
                }
                if self.by_key.get(&row.key) == Some(&id) {
                    self.by_key.remove(&row.key);
                }
            }
        }
    }
}
