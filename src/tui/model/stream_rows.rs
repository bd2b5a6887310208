//! All rows of the streams table, in their order. Filled from events and snapshots; a lost event leaves no row behind,
//! because snapshots tell the end of a stream too.

use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    rate_meter::{RateMeters, SampleClock},
    sort::{Sort, compare_texts, sort_value},
    stream_row::{RowId, SortRank, StreamAttributes, StreamCounters, StreamEnd, StreamRow},
};
use crate::{
    ids::{ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{Content, EndReason, Shortfall, StreamPhase, StreamSnapshot},
};

/// How many ended streams are kept. Those dropped because of this bound are counted on the screen.
const MAX_ENDED: usize = 1000;
/// The time for which an ended stream is kept.
const KEEP_ENDED: Duration = Duration::from_secs(300);
/// The shortest time between two sorts of the streams table by new values.
const RERANK_INTERVAL: Duration = Duration::from_secs(1);

/// The rows of all open streams and of recently ended ones, in table order. Each row has a slot: its index in the
/// lists of counters, ranks and attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRows {
    /// The byte counters and rates of each slot. The parts of a row are in three lists, because most samples update
    /// only this one.
    counters: Vec<StreamCounters>,
    /// The sort value and the sorted rates of the row in each slot.
    ranks: Vec<SortRank>,
    /// The attributes of the stream in each slot; `None` where the slot is free.
    slots: Vec<Option<StreamAttributes>>,
    /// The slots that have no row, which new rows take first.
    free: Vec<u32>,
    /// The newest row of each stream key.
    by_key: HashMap<StreamKey, RowId>,
    /// The ids of all rows in table order: open streams, then ended ones.
    order: Vec<RowId>,
    /// The first part of the order: open streams, and ended ones that have not been moved below them.
    ranked: Vec<RankedRow>,
    /// The second part of the order: ended streams, the last one first.
    ended_below_open: VecDeque<RowId>,
    /// For each position of the last snapshot, the slot of its stream's row: in the next snapshot it is mostly the
    /// same, which saves a look-up by key.
    slot_hints: Vec<u32>,
    /// New rows that the next sort adds to `ranked`.
    added: Vec<RankedRow>,
    /// The ids of all ended rows that are kept, the oldest first.
    ended: VecDeque<RowId>,
    /// Ended rows that are still listed among the open ones.
    ended_among_open: Vec<RowId>,
    /// The selected row, which stays in its place when its stream ends; `None` while no row is selected.
    pinned: Option<RowId>,
    /// The column by which the table is sorted, and the direction.
    sort: Sort,
    /// The times of the last samples, by which `meters` computes rates.
    clock: SampleClock,
    /// The byte counters of each slot at the last samples, from which rates are computed.
    meters: RateMeters,
    /// The number of the last sample.
    sample_number: u64,
    /// The serial number of the newest row; 0 before the first.
    next_serial: u64,
    /// The number of open streams.
    live: usize,
    /// The number of ended rows that were dropped because of [`MAX_ENDED`].
    dropped: u64,
    /// Whether a row has been removed from `ranked` or `ended_below_open` since the order was computed.
    has_removals: bool,
    /// When sort values were last computed; `None` before the first time and after a change of the sort key.
    reranked_at: Option<Instant>,
}

/// A row among the open ones, with the number by which it is sorted.
#[derive(Debug, Clone, Copy)]
struct RankedRow {
    /// The number by which the row is sorted, the smallest first.
    sort_value: u64,
    /// The serial number of the row, which orders rows with equal values.
    serial: u64,
    /// The slot of the row: its index in the lists of [`StreamRows`].
    slot: u32,
}

impl RankedRow {
    /// Returns the id of the row.
    fn id(self) -> RowId {
        RowId { slot: self.slot, serial: self.serial }
    }
}

impl StreamRows {
    /// Returns the row with this id; `None` once it has been dropped.
    pub(crate) fn get(&self, id: RowId) -> Option<StreamRow<'_>> {
        let slot = id.slot as usize;
        let counters = self.counters.get(slot).filter(|counters| counters.serial == id.serial)?;
        Some(StreamRow::new(counters, self.ranks.get(slot)?, self.slots.get(slot)?.as_ref()?))
    }

    /// Returns the attributes of a row, to be changed ahead of the server: the next snapshot overwrites them, unless
    /// they are [kept](StreamAttributes::steered).
    pub(crate) fn get_mut(&mut self, id: RowId) -> Option<&mut StreamAttributes> {
        let slot = id.slot as usize;
        let counters = self.counters.get_mut(slot).filter(|counters| counters.serial == id.serial)?;
        counters.mark_stale();
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Returns the newest row with this stream key.
    #[cfg(test)]
    pub(crate) fn find(&self, key: StreamKey) -> Option<RowId> {
        self.by_key.get(&key).copied()
    }

    /// Returns the ids of all rows in table order: open streams, then ended ones.
    pub(crate) fn order(&self) -> &[RowId] {
        &self.order
    }

    /// Pins the selected row: it stays in its place when its stream ends, so that it does not move away from the
    /// cursor. `None` unpins it.
    pub(crate) fn pin(&mut self, id: Option<RowId>) {
        self.pinned = id;
    }

    /// Unpins the selected row, and moves it below the open ones if its stream has ended.
    pub(crate) fn unpin(&mut self) {
        self.pinned = None;
        self.move_ended_below_open();
        self.rebuild_order(false);
    }

    /// Returns the number of rows of [`order`](Self::order) that come before the ended ones.
    pub(crate) fn rows_before_ended(&self) -> usize {
        self.ranked.len()
    }

    /// Returns when the rows last recorded a second of their rates; `None` before the first time.
    pub(crate) fn trends_updated_at(&self) -> Option<Instant> {
        self.reranked_at
    }

    /// Returns the serial number that snapshots give the row's stream; `None` once it ended, and before the first
    /// snapshot that contains it.
    pub(crate) fn snapshot_number(&self, id: RowId) -> Option<u64> {
        self.get(id)?.counters.snapshot_number()
    }

    /// Returns the open streams of these users, sorted by key. Iterates over all keys, which are few bytes compared
    /// to the rows.
    pub(crate) fn of_users(&self, users: &[UserChannelId]) -> Vec<(StreamKey, RowId)> {
        let theirs = self.by_key.iter().filter(|(key, _)| users.contains(&key.user));
        let mut streams: Vec<_> =
            theirs.filter(|(_, id)| self.is_live(**id)).map(|(key, id)| (*key, *id)).collect();
        streams.sort_unstable_by_key(|(key, _)| *key);
        streams
    }

    /// Returns the number of open streams.
    pub(crate) fn open_count(&self) -> usize {
        self.live
    }

    /// Returns the number of ended streams that are kept.
    pub(crate) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// Returns the number of kept rows of streams that ended with a failure.
    pub(crate) fn failed_count(&self) -> usize {
        let has_failed =
            |id: RowId| self.get(id).is_some_and(|row| row.ended.as_ref().is_some_and(StreamEnd::is_failure));
        self.ended.iter().filter(|id| has_failed(**id)).count()
    }

    /// Returns the number of ended streams that were dropped because of [`MAX_ENDED`].
    pub(crate) fn dropped_count(&self) -> u64 {
        self.dropped
    }

    /// Returns the column by which the table is sorted, and the direction.
    pub(crate) fn sort(&self) -> Sort {
        self.sort
    }

    /// Changes the sort key and direction of the table, and sorts it at once.
    pub(crate) fn set_sort(&mut self, sort: Sort, now: Instant) {
        self.sort = sort;
        self.reranked_at = None;
        self.refresh_order(now);
    }

    /// Applies the event that a stream opened: adds its row, unless a snapshot has added it already.
    pub(crate) fn apply_opened(
        &mut self,
        key: StreamKey,
        addr: SocketAddr,
        service: &ServiceKey,
        now: Instant,
    ) {
        // A snapshot may have shown it before its event came.
        if !self.by_key.get(&key).is_some_and(|id| self.is_live(*id)) {
            self.insert(key, addr, service.clone(), now);
        }
    }

    /// Applies the event that a stream was assigned to a proxy, which now connects to the target.
    pub(crate) fn apply_assigned(&mut self, key: StreamKey, proxy: ProxyId) {
        let Some(row) = self.by_key.get(&key).copied().and_then(|id| self.get_mut(id)) else { return };
        if row.is_live() {
            row.proxy = Some(proxy);
            if row.phase == StreamPhase::Waiting {
                row.phase = StreamPhase::Opening;
            }
        }
    }

    /// Applies the event that a stream ended: records why and within which transfer, its final totals `(down, up)` in
    /// bytes and its content.
    pub(crate) fn apply_ended(
        &mut self,
        key: StreamKey,
        (reason, shortfall): (&EndReason, Option<Shortfall>),
        (down, up): (u64, u64),
        content: Option<&Arc<Content>>,
        now: Instant,
    ) {
        let Some(&id) = self.by_key.get(&key) else { return };
        let Some(row) = self.get_mut(id) else { return };
        // The reason is known, and with it the final totals.
        if row.ended.as_ref().is_some_and(|ended| ended.reason.is_some()) {
            return;
        }
        if let Some(content) = content {
            row.content = Some(content.clone());
            // The size of a download that ended between two samples.
            row.download = content.body().or(row.download);
        }
        let reason = Some((reason.clone(), shortfall));
        if row.is_live() {
            self.end(id, reason, now);
        } else {
            row.end(now, reason);
        }
        let counters = &mut self.counters[id.slot as usize];
        (counters.down, counters.up) = (down, up);
    }

    /// Applies the streams of a snapshot.
    ///
    /// A stream that two consecutive snapshots do not contain has ended, even if its event was lost. One snapshot is
    /// not enough: the event of a stream that ended just before it may not have been delivered yet, and contains the
    /// reason.
    pub(crate) fn sample(&mut self, snapshots: &[StreamSnapshot], now: Instant, server_started: Instant) {
        self.clock.tick(now);
        self.sample_number += 1;
        let mut slot_hints = std::mem::take(&mut self.slot_hints);
        slot_hints.resize(snapshots.len(), u32::MAX);
        for (snapshot, hint) in snapshots.iter().zip(&mut slot_hints) {
            if !self.counters.get(*hint as usize).is_some_and(|counters| counters.belongs_to(snapshot)) {
                *hint = self.slot_of(snapshot, now, server_started);
            }
            let slot = *hint as usize;
            let counters = &mut self.counters[slot];
            let is_first = counters.mark_sampled(self.sample_number);
            let rates = self.meters.record(&self.clock, slot, is_first, (snapshot.down, snapshot.up));
            if counters.sample(snapshot, rates)
                && let Some(stream) = &mut self.slots[slot]
                && stream.apply(snapshot, now)
            {
                counters.mark_stale();
            }
        }
        self.slot_hints = slot_hints;
        // Mostly the snapshot contains every open stream; then there are no others to look for.
        let slots = if snapshots.len() == self.live { 0 } else { self.counters.len() };
        for slot in 0..slots {
            let counters = self.counters[slot];
            if counters.is_missing(self.sample_number) {
                self.end(RowId { slot: slot as u32, serial: counters.serial }, None, now);
            }
        }
        self.refresh_order(now);
    }

    /// Returns the slot (index in the lists of rows) of this stream's row, after adding a row if the stream is new.
    #[cold]
    fn slot_of(&mut self, snapshot: &StreamSnapshot, now: Instant, server_started: Instant) -> u32 {
        let known = self.by_key.get(&snapshot.key).copied().filter(|id| self.is_live(*id));
        let id = match known {
            Some(known) if self.counters[known.slot as usize].may_belong_to(snapshot) => known,
            known => {
                // A row with this key belongs to an earlier stream, whose end was missed. Streams are removed from the
                // server's register before their end is reported, so this stream is a new one.
                known.into_iter().for_each(|id| self.end(id, None, now));
                let info = &snapshot.info;
                self.insert(snapshot.key, info.addr, info.service.clone(), now)
            }
        };
        let counters = &mut self.counters[id.slot as usize];
        if !counters.belongs_to(snapshot) {
            let since = server_started + snapshot.info.opened_at;
            counters.assign_to(snapshot, now.saturating_duration_since(since));
            if let Some(stream) = &mut self.slots[id.slot as usize] {
                stream.since = since;
            }
        }
        id.slot
    }

    /// Returns whether this row is still kept and its stream is open.
    fn is_live(&self, id: RowId) -> bool {
        let counters = self.counters.get(id.slot as usize);
        counters.is_some_and(|counters| counters.serial == id.serial && counters.is_live())
    }

    /// Adds a row for a new stream and returns its id.
    fn insert(&mut self, key: StreamKey, addr: SocketAddr, service: ServiceKey, now: Instant) -> RowId {
        self.next_serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.counters.push(StreamCounters::default());
            self.ranks.push(SortRank::default());
            self.meters.reserve(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        let id = RowId { slot, serial: self.next_serial };
        let at = slot as usize;
        self.counters[at] = StreamCounters::new(id.serial, self.sample_number);
        self.ranks[at] = SortRank { serial: id.serial, ..SortRank::default() };
        let stream = self.slots[at].insert(StreamAttributes::new(key, addr, service, now));
        let sort_value = sort_value(StreamRow::new(&self.counters[at], &self.ranks[at], stream), self.sort);
        self.ranks[at].sort_value = sort_value;
        self.by_key.insert(key, id);
        self.added.push(RankedRow { sort_value, serial: id.serial, slot });
        self.live += 1;
        id
    }

    /// Records the end of an open stream; its row stays among the open ones until it is moved below them.
    fn end(&mut self, id: RowId, reason: Option<(EndReason, Option<Shortfall>)>, now: Instant) {
        if self.is_live(id)
            && let Some(stream) = &mut self.slots[id.slot as usize]
        {
            stream.end(now, reason);
            self.counters[id.slot as usize].end();
            self.live -= 1;
            self.ended.push_back(id);
            self.ended_among_open.push(id);
        }
    }

    /// Drops rows that are too old, and brings the order up to date. Cheap where nothing has changed.
    fn refresh_order(&mut self, now: Instant) {
        self.drop_old(now);
        self.move_ended_below_open();
        let rerank = self.reranked_at.is_none_or(|at| now.saturating_duration_since(at) >= RERANK_INTERVAL);
        if rerank {
            self.update_sort_keys(self.reranked_at.is_some());
            self.reranked_at = Some(now);
        }
        self.rebuild_order(rerank);
    }

    /// Computes the sort key of each row among the open ones. With `records_trend`, also records a second of its
    /// rates.
    fn update_sort_keys(&mut self, records_trend: bool) {
        let rows = self.counters.iter().zip(&mut self.ranks).zip(&mut self.slots);
        for ((counters, rank), stream) in rows.filter(|((_, rank), _)| rank.serial != 0) {
            let Some(stream) = stream else { continue };
            if records_trend && counters.is_live() {
                stream.trend.push(counters.down_rate, counters.up_rate);
                rank.update(counters);
            }
            rank.sort_value = sort_value(StreamRow::new(counters, rank, stream), self.sort);
        }
    }

    /// Computes the order from added and removed rows, and from the new sort values if there are any.
    fn rebuild_order(&mut self, has_new_sort_values: bool) {
        if !has_new_sort_values && !self.has_removals && self.added.is_empty() {
            return;
        }
        let (slots, ranks, sort) = (&self.slots, &self.ranks, self.sort);
        let row = |ranked: &RankedRow| slots.get(ranked.slot as usize).and_then(Option::as_ref);
        self.ranked.append(&mut self.added);
        self.ranked.retain_mut(|ranked| {
            let rank = &ranks[ranked.slot as usize];
            ranked.sort_value = rank.sort_value;
            rank.serial == ranked.serial
        });
        // The rows are nearly sorted, which a stable sort exploits. Rows with equal keys are in the order of opening.
        if sort.compares_texts() {
            self.ranked.sort_by(|a, b| {
                let texts = || match (row(a), row(b)) {
                    (Some(a), Some(b)) => compare_texts(a, b, sort),
                    _ => Ordering::Equal,
                };
                a.sort_value.cmp(&b.sort_value).then_with(texts).then(a.serial.cmp(&b.serial))
            });
        } else {
            self.ranked.sort_by_key(|ranked| (ranked.sort_value, ranked.serial));
        }
        self.order.clear();
        self.order.extend(self.ranked.iter().map(|ranked| ranked.id()));
        self.order.extend(&self.ended_below_open);
        self.has_removals = false;
    }

    /// Moves ended rows below the open ones, except the pinned one.
    fn move_ended_below_open(&mut self) {
        for id in std::mem::take(&mut self.ended_among_open) {
            if self.pinned == Some(id) {
                self.ended_among_open.push(id);
            } else if let Some(row) = self.get_mut(id) {
                row.is_below_open = true;
                self.ranks[id.slot as usize].serial = 0;
                self.ended_below_open.push_front(id);
                self.has_removals = true;
            }
        }
    }

    /// Drops ended rows that are older than [`KEEP_ENDED`] or more than [`MAX_ENDED`].
    fn drop_old(&mut self, now: Instant) {
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
                self.counters[id.slot as usize] = StreamCounters::default();
                self.has_removals = true;
                if row.is_below_open {
                    // Mostly the last one: rows are moved here in about the order in which they ended.
                    self.ended_below_open
                        .iter()
                        .rposition(|sunk| *sunk == id)
                        .map(|at| self.ended_below_open.remove(at));
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
