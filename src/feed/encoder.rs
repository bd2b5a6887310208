//! Snapshots to lines.

use std::time::Duration;

use super::{
    Interest, Item, Line, Missed, Pace,
    changes::{Changes, KeyedChanges},
    counted::CountedSender,
    keyed::KeyedSender,
    patch,
};
use crate::{
    ids::ChannelId,
    telemetry::{
        ChannelSnapshot, Event, LogRecord, ProxySnapshot, SelectedStream, ServiceSnapshot, Snapshot,
        StreamSnapshot, Totals, UserSnapshot,
    },
};

/// Turns successive snapshots, and the events and log records between them, into numbered lines for one consumer.
///
/// It keeps what the consumer has: 48 bytes for each stream, and the other rows as they are.
#[derive(Debug)]
pub struct Encoder {
    /// How many rows a change may carry.
    pace: Pace,
    /// The number of the last line.
    last_number: u64,
    /// Whether the next snapshot is sent whole: before the first one, and after [`restart`](Self::restart).
    is_whole_due: bool,
    /// The number of changes since percentiles were sent last.
    changes_without_percentiles: u32,
    /// The totals that the consumer has.
    totals: Totals,
    /// The services that the consumer has.
    services: KeyedSender<ServiceSnapshot>,
    /// The proxies that the consumer has, without their channels.
    proxies: KeyedSender<ProxySnapshot>,
    /// The channels that the consumer has, without their ages.
    channels: KeyedSender<ChannelSnapshot>,
    /// The users that the consumer has.
    users: CountedSender<UserSnapshot>,
    /// The streams that the consumer has.
    streams: CountedSender<StreamSnapshot>,
    /// The details of streams that the consumer has.
    selected: Vec<SelectedStream>,
}

impl Encoder {
    /// Returns an encoder whose first snapshot is sent whole. Its lines count from 1.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            last_number: 0,
            is_whole_due: true,
            changes_without_percentiles: 0,
            totals: Totals::default(),
            services: KeyedSender::default(),
            proxies: KeyedSender::default(),
            channels: KeyedSender::default(),
            users: CountedSender::default(),
            streams: CountedSender::default(),
            selected: Vec::new(),
        }
    }

    /// Makes the next snapshot a whole one, from which a consumer can start.
    pub fn restart(&mut self) {
        self.is_whole_due = true;
    }

    /// Returns the line that brings the consumer to this state: a whole snapshot the first time, then the changes since
    /// the last call. Where [`Pace`] leaves out rows, those of `interest` are not among them.
    pub fn snapshot(&mut self, snapshot: &Snapshot, interest: &Interest) -> Line {
        let item = if std::mem::take(&mut self.is_whole_due) {
            self.reset(snapshot);
            Item::Snapshot(Box::new(snapshot.clone()))
        } else {
            Item::Changes(Box::new(self.changes(snapshot, interest)))
        };
        self.line(item)
    }

    /// Returns the line of an event. Its effect may be in the snapshot before it already: events are taken first, and
    /// one may be emitted between that and the sample.
    pub fn event(&mut self, event: Event) -> Line {
        self.line(Item::Event(event))
    }

    /// Returns the line of a log record.
    pub fn log(&mut self, record: LogRecord) -> Line {
        self.line(Item::Log(record))
    }

    /// Returns the line that says how many items were dropped.
    pub fn missed(&mut self, missed: Missed) -> Line {
        self.line(Item::Missed(missed))
    }

    /// Numbers an item.
    fn line(&mut self, item: Item) -> Line {
        self.last_number += 1;
        Line::new(self.last_number, item)
    }

    /// Records that the consumer gets all of the snapshot.
    fn reset(&mut self, snapshot: &Snapshot) {
        self.totals = snapshot.totals;
        self.services.reset(snapshot.services.clone());
        self.proxies.reset(without_channels(snapshot));
        self.channels.reset(channels_without_age(snapshot));
        self.users.reset(&snapshot.users);
        self.streams.reset(&snapshot.streams);
        self.selected.clone_from(&snapshot.selected);
    }

    /// Returns what the consumer lacks, and records it as sent.
    fn changes(&mut self, snapshot: &Snapshot, interest: &Interest) -> Changes {
        self.changes_without_percentiles += 1;
        let has_percentiles = self.changes_without_percentiles >= self.pace.percentiles;
        if has_percentiles {
            self.changes_without_percentiles = 0;
        }
        let totals = patch::between(&self.totals, &snapshot.totals);
        self.totals = snapshot.totals;
        let selected = (self.selected != snapshot.selected).then(|| {
            self.selected.clone_from(&snapshot.selected);
            snapshot.selected.clone()
        });
        Changes {
            uptime: snapshot.uptime,
            totals,
            services: self.services.encode(snapshot.services.clone(), self.pace.keyed, has_percentiles),
            proxies: self.proxies.encode(without_channels(snapshot), self.pace.keyed, has_percentiles),
            channels: self.channel_changes(snapshot, has_percentiles),
            users: self.users.encode(&snapshot.users, self.pace, &interest.users),
            streams: self.streams.encode(&snapshot.streams, self.pace, &interest.streams),
            selected,
        }
    }

    /// Returns the changes of the channels. Only new ones have an age.
    fn channel_changes(
        &mut self,
        snapshot: &Snapshot,
        has_percentiles: bool,
    ) -> Option<KeyedChanges<ChannelId, ChannelSnapshot>> {
        let mut changes =
            self.channels.encode(channels_without_age(snapshot), self.pace.keyed, has_percentiles)?;
        for new in &mut changes.new {
            let mut channels = snapshot.proxies.iter().flat_map(|proxy| &proxy.channels);
            new.age =
                channels.find(|channel| channel.id == new.id).map_or(Duration::ZERO, |channel| channel.age);
        }
        Some(changes)
    }
}

/// Returns the proxies of a snapshot without their channels, which are a table of their own.
fn without_channels(snapshot: &Snapshot) -> Vec<ProxySnapshot> {
    let proxies = snapshot.proxies.iter();
    proxies
        .map(|proxy| ProxySnapshot {
            channels: Vec::new(),
            name: proxy.name.clone(),
            services: proxy.services.clone(),
            latency: proxy.latency.clone(),
            ..*proxy
        })
        .collect()
}

/// Returns the channels of all proxies, sorted by id. Their ages are 0, because they change with each snapshot and
/// follow from its uptime.
fn channels_without_age(snapshot: &Snapshot) -> Vec<ChannelSnapshot> {
    let channels = snapshot.proxies.iter().flat_map(|proxy| &proxy.channels);
    channels.map(|channel| ChannelSnapshot { age: Duration::ZERO, ..channel.clone() }).collect()
}
