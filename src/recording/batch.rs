//! Batches: all that was recorded within a second, in columns.
//!
//! With a line for each event a stream took 63 bytes of a recording, compressed, and in batches it takes 31: its key,
//! addresses, names and contents stand in three events and in rows of states again, and a column of numbers compresses
//! better than records do. A batch has an item once, as far as [`Known`] cannot tell it, and what is unusual as a line
//! of its own before the batch.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::columns::columns;
use crate::{
    feed::Line,
    ids::ServiceKey,
    telemetry::{Content, EndReason, StreamPhase},
};

/// The letters of [`Batch::kinds`].
pub(super) mod kind {
    /// A user joined.
    pub(in crate::recording) const JOINED: char = 'j';
    /// A user left.
    pub(in crate::recording) const LEFT: char = 'l';
    /// A stream was opened.
    pub(in crate::recording) const OPENED: char = 'o';
    /// A stream was assigned to a proxy.
    pub(in crate::recording) const ASSIGNED: char = 'a';
    /// A stream ended.
    pub(in crate::recording) const ENDED: char = 'e';
    /// The state of the server.
    pub(in crate::recording) const STATE: char = 's';
    /// The next of the lines before the batch: any other item.
    pub(in crate::recording) const LINE: char = '.';
}

/// Numbers in the column of contents: without content.
pub(super) const NO_CONTENT: i64 = -1;
/// With the content that the last row of the stream has.
pub(super) const SAME_CONTENT: i64 = -2;
/// Numbers in the column of ages, or places: a stream, or user, that is new in the table of those that are found.
pub(super) const FOUND: i64 = -1;
/// The next of the rows that the state itself contains.
pub(super) const ROW: i64 = -2;

/// How many rows of a table of a state are in columns at most. The others stay as they are.
pub(super) const MAX_ROWS: usize = 1 << 17;

/// A batch as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BatchLine {
    /// The batch.
    pub(super) batch: Batch,
}

/// What was recorded within a second.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Batch {
    /// The number of the first item, as [`Line::seq`].
    pub(super) seq: u64,
    /// The kind of each item, in their order, as one of the letters in [`kind`].
    pub(super) kinds: String,
    /// For each event in columns, how many milliseconds after the one before it was emitted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) times: Vec<i64>,
    /// [`EventKind::StreamOpened`].
    #[serde(skip_serializing_if = "Opened::is_empty")]
    pub(super) opened: Opened,
    /// [`EventKind::StreamAssigned`].
    #[serde(skip_serializing_if = "Assigned::is_empty")]
    pub(super) assigned: Assigned,
    /// [`EventKind::StreamEnded`].
    #[serde(skip_serializing_if = "Ended::is_empty")]
    pub(super) ended: Ended,
    /// [`EventKind::UserJoined`].
    #[serde(skip_serializing_if = "Joined::is_empty")]
    pub(super) joined: Joined,
    /// [`EventKind::UserLeft`]: the places of the users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<i64>,
    /// What the columns refer to by number and no earlier batch contains.
    #[serde(skip_serializing_if = "New::is_empty")]
    pub(super) new: New,
    /// The state of the server at the end of the second, without the rows that are in columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<Line>,
    /// Rows of users in the state.
    #[serde(skip_serializing_if = "UserRows::is_empty")]
    pub(super) users: UserRows,
    /// Users among them of which the segment has told nothing before.
    #[serde(skip_serializing_if = "Joined::is_empty")]
    pub(super) found_users: Joined,
    /// Users that have left and are still in the state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kept_users: Vec<u64>,
    /// Rows of streams in the state.
    #[serde(skip_serializing_if = "StreamRows::is_empty")]
    pub(super) streams: StreamRows,
    /// Streams among them of which the segment has told nothing before.
    #[serde(skip_serializing_if = "FoundStreams::is_empty")]
    pub(super) found_streams: FoundStreams,
    /// Counters of streams without a row in the state. In version 2 they stand in the state.
    #[serde(skip_serializing_if = "Counted::is_empty")]
    pub(super) counted: Counted,
    /// Streams that have ended and are still in the state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kept_streams: Vec<u64>,
}

columns! {
    /// Users that joined.
    Joined: 2 {
        /// The short id.
        id,
        /// The service, by its number in the dictionary. The address is the next of [`New::addrs`].
        service,
    }
}

columns! {
    /// Streams that were opened.
    Opened: 3 {
        /// The place of the user.
        user,
        /// The number of the stream within the user, less the one that was to be expected.
        stream,
        /// The user's port.
        port,
    }
}

columns! {
    /// Streams that were assigned.
    Assigned: 2 {
        /// The age of the stream.
        age,
        /// The proxy.
        proxy,
    }
}

columns! {
    /// Streams that ended.
    Ended: 9 {
        /// The age of the stream.
        age,
        /// The reason, by its number in the dictionary.
        reason,
        /// Bytes of the download, less what the body's size, or else the stream's last row tells.
        down,
        /// Bytes of the upload, less what the stream's last row tells. In version 2 all of them.
        up,
        /// By how many milliseconds it lasted longer than the time between the events of its begin and end. In version
        /// 2 microseconds.
        lasted,
        /// The time to the first byte as in [`first_byte_number`](super::rounding::first_byte_number), in version 2 in
        /// microseconds, plus one; 0 if there was none.
        first_byte,
        /// The content, by its number in the dictionary, or [`NO_CONTENT`] or [`SAME_CONTENT`].
        content,
        /// Where in the stream its body begins.
        begun,
        /// The size of the body; 0 without one.
        size,
    }
}

columns! {
    /// Rows of users.
    UserRows: 7 {
        /// The place of the user; [`FOUND`] or [`ROW`].
        place,
        /// Its serial number, less that of the row before.
        number,
        /// When it connected, in milliseconds since it joined, or else since the user of the row before connected. In
        /// version 2 microseconds.
        connected,
        /// Bytes of its downloads, less what its streams tell. In version 2 all of them, as in the next three columns.
        down,
        /// Bytes of its uploads, less what its streams tell.
        up,
        /// Its open streams, less those that were opened since the last state.
        open,
        /// Its streams since its first connection, less those that were opened since the last state.
        total,
    }
}

columns! {
    /// Counters of streams that were in a state before.
    Counted: 3 {
        /// By how many bytes the download has grown.
        down,
        /// By how many bytes the upload has grown.
        up,
        /// The rank of the stream among those that were in a state before and are open, in the order of their serial
        /// numbers, less that of the stream of the row before; one more in the first row.
        rank,
    }
}

columns! {
    /// Streams that a state contains and of which the segment has told nothing before.
    FoundStreams: 4 {
        /// The place of the user.
        user,
        /// The number of the stream within the user, less the one that was to be expected.
        stream,
        /// The user's port.
        port,
        /// The proxy, plus one; 0 without one.
        proxy,
    }
}

columns! {
    /// Rows of streams.
    StreamRows: 12 {
        /// The age of the stream, plus one; 0 for the next one that was in no state; [`FOUND`] or [`ROW`]. In version 2
        /// the age.
        age,
        /// Its serial number, less that of its last row, or else the number that follows from the order in which
        /// streams were opened; for one that is found, less that of the row before. In version 2 also for others
        /// without a last row.
        number,
        /// When it was opened, in milliseconds: after its last row tells, or its event; before the state where there
        /// was neither. In version 2 microseconds.
        opened,
        /// The version of its state.
        changes,
        /// Bytes of the download since its last row.
        down,
        /// Bytes of the upload since its last row.
        up,
        /// The phase, by its number in the dictionary.
        phase,
        /// The primary channel of its proxy, plus one; 0 without one.
        channel,
        /// As [`Ended::content`].
        content,
        /// As [`Ended::begun`].
        begun,
        /// As [`Ended::size`].
        size,
        /// 1 if its progress is that of the body, 0 if there is none.
        progress,
    }
}

/// Values that the columns of a batch refer to by number, and that are new in it, in the order of use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct New {
    /// The addresses of users.
    #[serde(with = "super::addresses", skip_serializing_if = "Vec::is_empty")]
    pub(super) addrs: Vec<IpAddr>,
    /// Services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) services: Vec<ServiceKey>,
    /// Contents, without their bodies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) contents: Vec<Content>,
    /// Reasons why streams ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reasons: Vec<EndReason>,
    /// Phases of streams.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) phases: Vec<StreamPhase>,
}

impl New {
    /// Returns whether nothing is new.
    fn is_empty(&self) -> bool {
        let Self { addrs, services, contents, reasons, phases } = self;
        addrs.is_empty()
            && services.is_empty()
            && contents.is_empty()
            && reasons.is_empty()
            && phases.is_empty()
    }
}

impl Batch {
    /// Shortens the columns that can be.
    pub(super) fn shorten(&mut self) {
        super::columns::shorten(&mut self.times);
        self.counted.shorten(true);
        self.opened.shorten(false);
        self.assigned.shorten(false);
        self.ended.shorten(false);
        self.joined.shorten(false);
        self.found_users.shorten(false);
        self.found_streams.shorten(false);
        self.users.shorten(true);
        self.streams.shorten(true);
    }
}
