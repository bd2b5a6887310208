//! What the earlier lines of a segment have told of users, streams and proxies. The writer and the reader of a batch
//! keep the same, so that neither writes again what the other one knows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{columns::Dictionary, unpack_error::Damaged};
use crate::{
    feed::{Changes, Counters},
    ids::{ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{
        Content, EndReason, Event, EventKind, ProxySnapshot, Snapshot, StreamPhase, StreamSnapshot,
        UserSnapshot, micros,
    },
};

/// How many users, streams and proxies are remembered, of each; what is told of others is written out. It bounds the
/// memory of the recorder and of a reader: 200 bytes for each.
const MAX_KNOWN: usize = 1 << 17;

/// What is known of a user.
#[derive(Debug)]
pub(super) struct KnownUser {
    /// Its short id.
    pub(super) id: UserChannelId,
    /// Its address.
    pub(super) addr: IpAddr,
    /// Its service.
    pub(super) service: ServiceKey,
    /// The number that its next stream probably has.
    pub(super) next_stream: u32,
    /// When it joined, in milliseconds since the Unix epoch, if that is in the segment.
    pub(super) joined_ms: Option<u64>,
    /// Its serial number, once it was in a state.
    pub(super) number: Option<u64>,
    /// By how much its counters have probably grown since the last state, because those of its streams have.
    grown: [i64; 4],
}

/// What is known of an open stream.
#[derive(Debug)]
pub(super) struct KnownStream {
    /// The order in which streams became known.
    pub(super) serial: u64,
    /// The user's address and port.
    pub(super) addr: SocketAddr,
    /// Its service.
    pub(super) service: ServiceKey,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub(super) opened_ms: u64,
    /// When it was opened as the time since the server started, in microseconds, once it was in a state.
    pub(super) opened_at: Option<u64>,
    /// Its serial number, once it was in a state.
    pub(super) number: Option<u64>,
    /// The proxy that it was assigned to last.
    pub(super) proxy: Option<ProxyId>,
    /// Its content in the last state.
    pub(super) content: Option<Arc<Content>>,
    /// Its byte counters in the last state.
    pub(super) bytes: (u64, u64),
}

/// What is known in a segment.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The version of the format: from 3 on, columns lack what is expected here.
    pub(super) version: u32,
    /// The time of the last event, in milliseconds since the Unix epoch.
    pub(super) last_ms: u64,
    /// The users in the order in which they became known; one that left is kept, because it may return.
    users: Vec<KnownUser>,
    /// Their places.
    user_places: HashMap<UserChannelId, usize>,
    /// The places of those whose counters have probably grown.
    grown_users: Vec<usize>,
    /// The streams that have not ended.
    streams: HashMap<StreamKey, KnownStream>,
    /// Their keys in the order in which they became known.
    open: Vec<(u64, StreamKey)>,
    /// The keys of those that were in a state, by their serial numbers.
    numbered: BTreeMap<u64, StreamKey>,
    /// The keys of those that were not, in the order in which they became known.
    unnumbered: BTreeMap<u64, StreamKey>,
    /// Of the last of the streams that were in a state, in the order in which they became known, this order and its
    /// serial number.
    last_numbered: (u64, u64),
    /// The order of the stream whose row was written last, plus one.
    next_row: u64,
    /// The serial of the next stream.
    next_serial: u64,
    /// The names of the proxies.
    pub(super) proxies: HashMap<ProxyId, Arc<str>>,
    /// The serial numbers of streams that have ended and are probably gone in the next state.
    pub(super) ended: BTreeSet<u64>,
    /// The serial numbers of users that have left.
    pub(super) left: BTreeSet<u64>,
    /// Contents, without their bodies.
    pub(super) contents: Dictionary<Content>,
    /// Services.
    pub(super) services: Dictionary<ServiceKey>,
    /// Reasons why streams ended.
    pub(super) reasons: Dictionary<EndReason>,
    /// Phases of streams.
    pub(super) phases: Dictionary<StreamPhase>,
    /// The time that the server had run for in the present state.
    pub(super) uptime: Duration,
    /// When the server started according to that, in milliseconds since the Unix epoch.
    boot_ms: u64,
    /// The serial number of the stream and of the user whose rows were written last.
    pub(super) last_numbers: (u64, u64),
    /// When the user connected whose row was written last, in microseconds.
    pub(super) last_connected: u64,
}

impl Known {
    /// Returns what is known at the begin of a segment in this version of the format.
    pub(super) fn new(version: u32) -> Self {
        Self { version, ..Self::default() }
    }

    /// Returns whether columns lack what is expected: otherwise they are of version 2.
    pub(super) fn has_expectations(&self) -> bool {
        self.version >= 3
    }

    /// Returns the unit of times in columns, in microseconds.
    pub(super) fn time_unit(&self) -> i64 {
        if self.has_expectations() { 1000 } else { 1 }
    }

    /// Returns the serial numbers of the streams that were in a state, in ascending order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.numbered.keys().copied()
    }

    /// Returns the stream whose row is expected next: the next one that was in no state yet.
    pub(super) fn expected_stream(&self) -> Option<StreamKey> {
        self.unnumbered.range(self.next_row..).next().map(|(_, key)| *key)
    }

    /// Returns the serial number that a stream without one probably has: they are given in the order of opening.
    pub(super) fn expected_number(&self, stream: &KnownStream) -> u64 {
        let (serial, number) = self.last_numbered;
        number.wrapping_add(stream.serial.wrapping_sub(serial))
    }

    /// Returns by how much the counters of a user have probably grown since the last state.
    pub(super) fn expected_growth(&self, id: UserChannelId) -> [i64; 4] {
        self.user(id).map_or([0; 4], |(_, user)| user.grown)
    }

    /// Returns the place and the entry of a user.
    pub(super) fn user(&self, id: UserChannelId) -> Option<(i64, &KnownUser)> {
        let place = *self.user_places.get(&id)?;
        Some((place as i64, &self.users[place]))
    }

    /// Returns the user at a place.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn user_at(&self, place: i64) -> Result<&KnownUser, Damaged> {
        usize::try_from(place).ok().and_then(|place| self.users.get(place)).ok_or(Damaged)
    }

    /// Returns the age and the entry of a stream. The age counts the open streams that became known after it: most
    /// streams that end are young, so that these are short numbers.
    pub(super) fn stream(&self, key: StreamKey) -> Option<(i64, &KnownStream)> {
        let stream = self.streams.get(&key)?;
        Some(((self.open.len() - 1 - self.place(stream.serial)?) as i64, stream))
    }

    /// Returns the stream with this age.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn stream_at(&self, age: i64) -> Result<(StreamKey, &KnownStream), Damaged> {
        let place =
            usize::try_from(age).ok().and_then(|age| self.open.len().checked_sub(age.checked_add(1)?));
        let (_, key) = self.open[place.ok_or(Damaged)?];
        Ok((key, self.streams.get(&key).ok_or(Damaged)?))
    }

    /// Returns the stream that a number in the column of ages of rows stands for.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn stream_of_row(&self, number: i64) -> Result<(StreamKey, &KnownStream), Damaged> {
        match number {
            0 if self.has_expectations() => {
                let key = self.expected_stream().ok_or(Damaged)?;
                Ok((key, self.streams.get(&key).ok_or(Damaged)?))
            }
            age if self.has_expectations() => self.stream_at(age.wrapping_sub(1)),
            age => self.stream_at(age),
        }
    }

    /// Returns when an object began that was reported then, as the time since the server started, in microseconds.
    pub(super) fn since_boot(&self, ms: u64) -> u64 {
        ms.wrapping_sub(self.boot_ms).wrapping_mul(1000)
    }

    /// Begins a whole state that was taken at `at`: it does not say what is gone.
    pub(super) fn begin_snapshot(&mut self, snapshot: &Snapshot, at: u64) {
        self.begin_state(snapshot.uptime, at);
        self.note_proxies(&snapshot.proxies);
        self.left.clear();
        self.ended.clear();
    }

    /// Begins changes to the last state that were taken at `at`.
    pub(super) fn begin_changes(&mut self, changes: &Changes, at: u64) {
        self.begin_state(changes.uptime, at);
        if let Some(proxies) = &changes.proxies {
            self.note_proxies(&proxies.new);
        }
    }

    /// Begins a state that was taken at `at`.
    fn begin_state(&mut self, uptime: Duration, at: u64) {
        let started = at.wrapping_sub(micros::count(uptime) / 1000);
        (self.uptime, self.boot_ms, self.last_connected, self.next_row) = (uptime, started, 0, 0);
    }

    /// Records what an event tells.
    pub(super) fn note(&mut self, event: &Event) {
        self.last_ms = event.epoch_ms;
        match &event.kind {
            EventKind::ProxyConnected { proxy, name, .. } => {
                self.note_proxy(*proxy, &Arc::from(name.as_str()))
            }
            EventKind::StreamAssigned { key, proxy, name } => {
                self.note_proxy(*proxy, name);
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.proxy = Some(*proxy);
                }
            }
            EventKind::UserJoined { user, addr, service } => {
                self.note_user(*user, *addr, service, Some(event.epoch_ms));
            }
            EventKind::UserLeft { user } => {
                let user = self.user_places.get(user).map(|place| &mut self.users[*place]);
                self.left.extend(user.and_then(|user| user.number.take()));
            }
            EventKind::StreamOpened { key, addr, service } => {
                self.note_user(key.user, addr.ip(), service, None);
                self.insert_stream(*key, *addr, service, event.epoch_ms);
                self.grow(key.user, [0, 0, 1, 1]);
            }
            EventKind::StreamEnded { key, down, up, .. } => {
                if let Some(stream) = self.remove_stream(*key) {
                    self.ended.extend(stream.number);
                    let (down, up) = grown(stream.bytes, (*down, *up));
                    self.grow(key.user, [down, up, -1, 0]);
                }
            }
            _ => {}
        }
    }

    /// Records the proxies of a state.
    fn note_proxies(&mut self, proxies: &[ProxySnapshot]) {
        proxies.iter().for_each(|proxy| self.note_proxy(proxy.id, &proxy.name));
    }

    /// Records the name of a proxy.
    fn note_proxy(&mut self, proxy: ProxyId, name: &Arc<str>) {
        if self.proxies.len() < MAX_KNOWN && self.proxies.get(&proxy) != Some(name) {
            self.proxies.insert(proxy, name.clone());
        }
    }

    /// Records a user.
    fn note_user(&mut self, id: UserChannelId, addr: IpAddr, service: &ServiceKey, joined_ms: Option<u64>) {
        let known = self.user_places.get(&id).map(|place| &mut self.users[*place]);
        if let Some(user) = known.filter(|user| user.addr == addr && user.service == *service) {
            user.joined_ms = joined_ms.or(user.joined_ms);
        } else if self.users.len() < MAX_KNOWN {
            self.user_places.insert(id, self.users.len());
            let service = service.clone();
            self.users.push(KnownUser {
                id,
                addr,
                service,
                next_stream: 1,
                joined_ms,
                number: None,
                grown: [0; 4],
            });
        }
    }

    /// Records an open stream.
    fn insert_stream(&mut self, key: StreamKey, addr: SocketAddr, service: &ServiceKey, opened_ms: u64) {
        if let Some(user) = self.user_places.get(&key.user).map(|place| &mut self.users[*place]) {
            user.next_stream = key.stream.0.wrapping_add(1);
        }
        if self.streams.len() >= MAX_KNOWN {
            return;
        }
        self.remove_stream(key);
        let serial = self.next_serial;
        self.next_serial += 1;
        self.open.push((serial, key));
        self.unnumbered.insert(serial, key);
        let stream = KnownStream {
            serial,
            addr,
            service: service.clone(),
            opened_ms,
            opened_at: None,
            number: None,
            proxy: None,
            content: None,
            bytes: (0, 0),
        };
        self.streams.insert(key, stream);
    }

    /// Removes a stream that has ended.
    fn remove_stream(&mut self, key: StreamKey) -> Option<KnownStream> {
        let stream = self.streams.remove(&key)?;
        if let Some(place) = self.place(stream.serial) {
            self.open.remove(place);
        }
        self.unnumbered.remove(&stream.serial);
        if let Some(number) = stream.number {
            self.numbered.remove(&number);
        }
        Some(stream)
    }

    /// Returns the place of a stream among the open ones.
    fn place(&self, serial: u64) -> Option<usize> {
        self.open.binary_search_by_key(&serial, |(serial, _)| *serial).ok()
    }

    /// Records a row of a stream.
    pub(super) fn note_stream_row(&mut self, row: &StreamSnapshot) {
        let info = &row.info;
        if !self.streams.contains_key(&info.key) {
            self.note_user(info.key.user, info.addr.ip(), &info.service, None);
            let opened_ms = self.boot_ms.wrapping_add(micros::count(info.opened_at) / 1000);
            self.insert_stream(info.key, info.addr, &info.service, opened_ms);
        }
        if let Some(stream) = self.streams.get_mut(&info.key) {
            let (down, up) = grown(stream.bytes, (row.down, row.up));
            // Data that contradicts itself can give a stream another number.
            if let Some(before) = stream.number {
                self.numbered.remove(&before);
            }
            self.numbered.insert(row.number, info.key);
            self.unnumbered.remove(&stream.serial);
            self.next_row = stream.serial + 1;
            if self.last_numbered.0 <= stream.serial {
                self.last_numbered = (stream.serial, row.number);
            }
            (stream.number, stream.proxy, stream.bytes) = (Some(row.number), row.proxy, (row.down, row.up));
            stream.content.clone_from(&row.content);
            stream.opened_at = Some(micros::count(info.opened_at));
            self.grow(info.key.user, [down, up, 0, 0]);
        }
        self.last_numbers.0 = row.number;
    }

    /// Records the counters of streams.
    pub(super) fn note_stream_counters(&mut self, counters: &Counters) {
        for (number, [down, up, ..]) in counters.rows() {
            let Some(key) = self.numbered.get(&number).copied() else { continue };
            if let Some(stream) = self.streams.get_mut(&key) {
                let bytes = &mut stream.bytes;
                *bytes = (bytes.0.wrapping_add_signed(down), bytes.1.wrapping_add_signed(up));
                self.grow(key.user, [down, up, 0, 0]);
            }
        }
    }

    /// Adds to what the counters of a user have probably grown by.
    fn grow(&mut self, user: UserChannelId, grown: [i64; 4]) {
        let Some(&place) = self.user_places.get(&user) else { return };
        let known = &mut self.users[place];
        if known.grown == [0; 4] {
            self.grown_users.push(place);
        }
        known.grown.iter_mut().zip(grown).for_each(|(sum, grown)| *sum = sum.wrapping_add(grown));
    }

    /// Returns by how much the counters of users have probably grown since the last state, by their serial numbers,
    /// except for those whose rows, with these numbers, are in this one.
    pub(super) fn take_grown_users(
        &mut self,
        rows: impl IntoIterator<Item = u64>,
    ) -> BTreeMap<u64, [i64; 4]> {
        let mut grown = BTreeMap::new();
        for place in std::mem::take(&mut self.grown_users) {
            let user = &mut self.users[place];
            let counters = std::mem::take(&mut user.grown);
            if let Some(number) = user.number.filter(|_| counters != [0; 4]) {
                grown.insert(number, counters);
            }
        }
        rows.into_iter().for_each(|number| {
            grown.remove(&number);
        });
        grown
    }

    /// Records a row of a user.
    pub(super) fn note_user_row(&mut self, row: &UserSnapshot) {
        self.note_user(row.id, row.addr, &row.service, None);
        if let Some(user) = self.user_places.get(&row.id).map(|place| &mut self.users[*place]) {
            user.number = Some(row.number);
        }
        self.last_numbers.1 = row.number;
        self.last_connected = micros::count(row.connected_at);
    }
}

/// Returns by how much byte counters have grown.
fn grown(before: (u64, u64), now: (u64, u64)) -> (i64, i64) {
    (now.0.wrapping_sub(before.0) as i64, now.1.wrapping_sub(before.1) as i64)
}
