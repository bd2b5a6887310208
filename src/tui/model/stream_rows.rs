use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    rate_meter::{RateMeters, SampleClock},
    sort::{Sort, compare_texts, place},
    stream_row::{RowId, SortRank, StreamAttributes, StreamCounters, StreamRow},
};
use crate::{
    ids::{ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{Content, EndReason, StreamPhase, StreamSnapshot},
};

/// How many ended streams are kept, and for how long. Whichever bound is reached first; what the first one drops is
/// counted on screen.
const MAX_ENDED: usize = 1000;
const KEEP_ENDED: Duration = Duration::from_secs(300);
/// Rows change places this often at most.
const RERANK: Duration = Duration::from_secs(1);

/// Every stream that is open, and the last ones that ended, in the order of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRows {
    /// By slot, what makes a row: three lists, because most ticks go through the first alone.
    figures: Vec<StreamCounters>,
    ranks: Vec<SortRank>,
    slots: Vec<Option<StreamAttributes>>,
    free: Vec<u32>,
    by_key: HashMap<StreamKey, RowId>,
    order: Vec<RowId>,
    /// The first part of the order: the open ones, and those that ended and have not sunk.
    ranked: Vec<Ranked>,
    /// The second part: those that ended, the last one first.
    sunk: VecDeque<RowId>,
    /// In which slots the last snapshot's streams were found, in its order: the next one's mostly is the same.
    hints: Vec<u32>,
    added: Vec<Ranked>,
    ended: VecDeque<RowId>,
    /// Those that ended and still stand among the open ones.
    floating: Vec<RowId>,
    /// The one row that keeps its place although its stream ended: the operator has it selected.
    pinned: Option<RowId>,
    sort: Sort,
    clock: SampleClock,
    meters: RateMeters,
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

impl StreamRows {
    /// The row, if it is still kept.
    pub(crate) fn get(&self, id: RowId) -> Option<StreamRow<'_>> {
        let slot = id.slot as usize;
        let figures = self.figures.get(slot).filter(|figures| figures.serial == id.serial)?;
        Some(StreamRow::new(figures, self.ranks.get(slot)?, self.slots.get(slot)?.as_ref()?))
    }

    /// To be changed before the server says so: what the next snapshot says goes before it.
    pub(crate) fn get_mut(&mut self, id: RowId) -> Option<&mut StreamAttributes> {
        let slot = id.slot as usize;
        let figures = self.figures.get_mut(slot).filter(|figures| figures.serial == id.serial)?;
        figures.distrust();
        self.slots.get_mut(slot)?.as_mut()
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

    /// Returns the serial number that snapshots give the row's stream; `None` once it ended, and before the first snapshot
    /// that contains it.
    pub(crate) fn snapshot_number(&self, id: RowId) -> Option<u64> {
        self.get(id)?.figures.snapshot_number()
    }

    /// The open streams of these users, by user and number. The register of keys is small beside the rows.
    pub(crate) fn of_users(&self, users: &[UserChannelId]) -> Vec<(StreamKey, RowId)> {
        let theirs = self.by_key.iter().filter(|(key, _)| users.contains(&key.user));
        let mut streams: Vec<_> =
            theirs.filter(|(_, id)| self.is_live(**id)).map(|(key, id)| (*key, *id)).collect();
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
        if !self.by_key.get(&key).is_some_and(|id| self.is_live(*id)) {
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
        content: Option<&Arc<Content>>,
        now: Instant,
    ) {
        let Some(&id) = self.by_key.get(&key) else { return };
        let Some(row) = self.get_mut(id) else { return };
        // Its end is known already, and so is all the rest.
        if row.ended.as_ref().is_some_and(|ended| ended.reason.is_some()) {
            return;
        }
        if let Some(content) = content {
            row.content = Some(content.clone());
        }
        if row.is_live() {
            self.end(id, Some(reason.clone()), now);
        } else {
            row.end(now, Some(reason.clone()));
        }
        let figures = &mut self.figures[id.slot as usize];
        (figures.down, figures.up) = (down, up);
    }

    /// Takes what a snapshot says about every stream.
    ///
    /// One that two snapshots in a row do not name has ended: should the event have been lost, no ghost stays behind.
    /// Not the first time, because the event of one that ended just before the snapshot is still on its way, and
    /// tells why.
    pub(crate) fn sample(&mut self, snapshots: &[StreamSnapshot], now: Instant, server_started: Instant) {
        self.clock.tick(now);
        self.sample += 1;
        let mut hints = std::mem::take(&mut self.hints);
        hints.resize(snapshots.len(), u32::MAX);
        for (snapshot, hint) in snapshots.iter().zip(&mut hints) {
            if !self.figures.get(*hint as usize).is_some_and(|figures| figures.is_now(snapshot)) {
                *hint = self.place_of(snapshot, now, server_started);
            }
            let slot = *hint as usize;
            let figures = &mut self.figures[slot];
            let anew = figures.is_named(self.sample);
            let rates = self.meters.note(&self.clock, slot, anew, (snapshot.down, snapshot.up));
            if figures.sample(snapshot, rates)
                && let Some(stream) = &mut self.slots[slot]
            {
                stream.take(snapshot);
            }
        }
        self.hints = hints;
        // Mostly each of them was named: then there is no need to look for others.
        let slots = if snapshots.len() == self.live { 0 } else { self.figures.len() };
        for slot in 0..slots {
            let figures = self.figures[slot];
            if figures.is_missing(self.sample) {
                self.end(RowId { slot: slot as u32, serial: figures.serial }, None, now);
            }
        }
        self.settle(now);
    }

    /// The slot of the row of this stream, which may be new.
    #[cold]
    fn place_of(&mut self, snapshot: &StreamSnapshot, now: Instant, server_started: Instant) -> u32 {
        let known = self.by_key.get(&snapshot.key).copied().filter(|id| self.is_live(*id));
        let id = match known {
            Some(known) if self.figures[known.slot as usize].may_be(snapshot) => known,
            known => {
                // Where another stream has its key already, its own end was missed. An end is told only after the stream
                // has left the register: this is a new one, maybe with the key of another.
                known.into_iter().for_each(|id| self.end(id, None, now));
                let info = &snapshot.info;
                self.insert(snapshot.key, info.addr, info.service.clone(), now)
            }
        };
        let figures = &mut self.figures[id.slot as usize];
        if !figures.is_now(snapshot) {
            let since = server_started + snapshot.info.opened_at;
            figures.be(snapshot, now.saturating_duration_since(since));
            if let Some(stream) = &mut self.slots[id.slot as usize] {
                stream.since = since;
            }
        }
        id.slot
    }

    fn is_live(&self, id: RowId) -> bool {
        let figures = self.figures.get(id.slot as usize);
        figures.is_some_and(|figures| figures.serial == id.serial && figures.is_live())
    }

    fn insert(&mut self, key: StreamKey, addr: SocketAddr, service: ServiceKey, now: Instant) -> RowId {
        self.next_serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.figures.push(StreamCounters::default());
            self.ranks.push(SortRank::default());
            self.meters.reserve(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        let id = RowId { slot, serial: self.next_serial };
        let at = slot as usize;
        self.figures[at] = StreamCounters::begun(id.serial, self.sample);
        self.ranks[at] = SortRank { serial: id.serial, ..SortRank::default() };
        let stream = self.slots[at].insert(StreamAttributes::new(key, addr, service, now));
        let place = place(StreamRow::new(&self.figures[at], &self.ranks[at], stream), self.sort);
        self.ranks[at].place = place;
        self.by_key.insert(key, id);
        self.added.push(Ranked { place, serial: id.serial, slot });
        self.live += 1;
        id
    }

    fn end(&mut self, id: RowId, reason: Option<EndReason>, now: Instant) {
        if self.is_live(id)
            && let Some(stream) = &mut self.slots[id.slot as usize]
        {
            stream.end(now, reason);
            self.figures[id.slot as usize].end();
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
            self.rerank(self.reranked.is_some());
            self.reranked = Some(now);
        }
        self.put_in_order(rerank);
    }

    /// Says of each row that has not sunk where it belongs; `second` where a second has passed since the last time.
    fn rerank(&mut self, second: bool) {
        let rows = self.figures.iter().zip(&mut self.ranks).zip(&mut self.slots);
        for ((figures, rank), stream) in rows.filter(|((_, rank), _)| rank.serial != 0) {
            let Some(stream) = stream else { continue };
            if second && figures.is_live() {
                stream.trend.push(figures.down_rate, figures.up_rate);
                rank.second(figures);
            }
            rank.place = place(StreamRow::new(figures, rank, stream), self.sort);
        }
    }

    /// Brings the order up to date with what came and went, and with the rows' places where those are new.
    fn put_in_order(&mut self, places: bool) {
        if !places && !self.left && self.added.is_empty() {
            return;
        }
        let (slots, ranks, sort) = (&self.slots, &self.ranks, self.sort);
        let row = |ranked: &Ranked| slots.get(ranked.slot as usize).and_then(Option::as_ref);
        self.ranked.append(&mut self.added);
        self.ranked.retain_mut(|ranked| {
            let rank = &ranks[ranked.slot as usize];
            ranked.place = rank.place;
            rank.serial == ranked.serial
        });
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
                self.ranks[id.slot as usize].serial = 0;
                self.sunk.push_front(id);
                self.left = true;
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&id) = self.ended.front() {
            let too_many = self.ended.len() > MAX_ENDED;
            let ended = self.get(id).and_then(|row| row.ended.as_ref().map(|ended| ended.at));
            let too_old = ended.is_none_or(|at| now.saturating_duration_since(at) >= KEEP_ENDED);
            if !too_many && !too_old {
                break;
            }
            self.dropped += u64::from(!too_old);
            self.ended.pop_front();
            if let Some(row) = self.slots.get_mut(id.slot as usize).and_then(Option::take) {
                self.free.push(id.slot);
                self.figures[id.slot as usize] = StreamCounters::default();
                self.left = true;
                if row.sunk {
                    // Mostly the last one: they sink about as they end.
                    self.sunk.iter().rposition(|sunk| *sunk == id).map(|at| self.sunk.remove(at));
                } else {
                    self.ranks[id.slot as usize].serial = 0;
                }
                if self.by_key.get(&row.key) == Some(&id) {
                    self.by_key.remove(&row.key);
                }
            }
        }
    }
}
