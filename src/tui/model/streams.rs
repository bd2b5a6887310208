use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    meter::SampleClock,
    order::{Sort, compare, place},
    row::{Row, RowId},
};
use crate::{
    ids::{ProxyId, ServiceKey, StreamKey},
    telemetry::{Carries, EndReason, StreamPhase, StreamSnapshot},
};

/// How many ended streams are kept, and for how long. Whichever bound is reached first; what the first one drops is
/// counted on screen.
const MAX_ENDED: usize = 1000;
const KEEP_ENDED: Duration = Duration::from_secs(300);
/// Rows change places this often at most.
const RERANK: Duration = Duration::from_secs(1);

/// Every stream that is open, and the last ones that ended, in the order of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Row>>,
    free: Vec<u32>,
    by_key: HashMap<StreamKey, RowId>,
    order: Vec<RowId>,
    /// Where the last snapshot's streams were found, in its order: the next one's mostly is the same.
    hints: Vec<RowId>,
    added: Vec<RowId>,
    ended: VecDeque<RowId>,
    /// Those that ended and still stand among the open ones.
    floating: Vec<RowId>,
    sunk: u64,
    /// The one row that keeps its place although its stream ended: the operator has it selected.
    pinned: Option<RowId>,
    sort: Sort,
    clock: SampleClock,
    sample: u64,
    next_serial: u64,
    live: usize,
    dropped: u64,
    removed: bool,
    reranked: Option<Instant>,
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
        if self.sink() {
            self.put_in_order();
        }
    }

    /// How many of [`order`](Self::order) come before the ended ones.
    pub(crate) fn unsettled(&self) -> usize {
        self.order.partition_point(|id| self.get(*id).is_some_and(|row| row.place.0 == 0))
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
            row.carry(carries);
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
        for (snapshot, hint) in snapshots.iter().zip(&mut hints) {
            if snapshot.ended.is_some() {
                continue;
            }
            let hinted = self.get(*hint).is_some_and(|row| row.key == snapshot.key && row.is_live());
            let known = if hinted { Some(*hint) } else { self.by_key.get(&snapshot.key).copied() };
            let id = match known.and_then(|id| self.get(id)).map(|row| (row.is_live(), row.is_of(snapshot))) {
                Some((true, true)) => known,
                Some((true, false)) => {
                    // Another stream has its key already, so its own end was missed.
                    known.into_iter().for_each(|id| self.end(id, None, now));
                    None
                }
                // An end is told only after the stream has left the register: this is a new one with the same key.
                Some((false, _)) | None => None,
            };
            let id = id.unwrap_or_else(|| {
                let service = snapshot.info.user.service.key.clone();
                self.insert(snapshot.key, snapshot.info.addr, service, now)
            });
            *hint = id;
            if let Some(Some(row)) = self.slots.get_mut(id.slot as usize) {
                row.seen = self.sample;
                seen += 1;
                row.sample(snapshot, &self.clock);
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

    fn insert(&mut self, key: StreamKey, addr: SocketAddr, service: ServiceKey, now: Instant) -> RowId {
        self.next_serial += 1;
        let mut row = Row::new(key, self.next_serial, addr, service, now);
        row.seen = self.sample;
        row.place = place(&row, self.sort);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let id = RowId { slot, serial: row.serial };
        self.slots[slot as usize] = Some(row);
        self.by_key.insert(key, id);
        self.added.push(id);
        self.live += 1;
        id
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
        let sank = self.sink();
        let rerank = self.reranked.is_none_or(|at| now.saturating_duration_since(at) >= RERANK);
        if rerank {
            let second = self.reranked.is_some();
            for row in self.slots.iter_mut().flatten() {
                if second {
                    row.second();
                }
                row.place = place(row, self.sort);
            }
            self.reranked = Some(now);
        }
        if self.removed {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|id| self.get(*id).is_some());
            self.order = order;
        }
        if rerank || sank || !self.added.is_empty() {
            self.put_in_order();
        }
        self.removed = false;
    }

    fn put_in_order(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        order.append(&mut self.added);
        // Nearly sorted already, which the stable sort makes use of.
        order.sort_by(|a, b| match (self.get(*a), self.get(*b)) {
            (Some(a), Some(b)) => compare(a, b, self.sort),
            (a, b) => a.is_some().cmp(&b.is_some()),
        });
        self.order = order;
    }

    /// Lets ended rows go below the open ones, but for the selected one; says whether any went.
    fn sink(&mut self) -> bool {
        let before = self.floating.len();
        let floating = std::mem::take(&mut self.floating);
        for id in floating {
            if self.pinned == Some(id) {
                self.floating.push(id);
                continue;
            }
            self.sunk += 1;
            let (number, sort) = (self.sunk, self.sort);
            if let Some(row) = self.get_mut(id) {
                row.sunk = Some(number);
                row.place = place(row, sort);
            }
        }
        self.floating.len() < before
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
                self.removed = true;
                if self.by_key.get(&row.key) == Some(&id) {
                    self.by_key.remove(&row.key);
                }
            }
        }
    }
}
