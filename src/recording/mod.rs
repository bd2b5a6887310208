//! Recordings: the lines of [`feed`](crate::feed) in files, compressed, bounded in size and age.
//!
//! A file is a sequence of *segments*. Each is one zstd frame, and begins with a whole snapshot, so that a reader can
//! start at any of them; the first line of a file is a [`FileHeader`]. Before each segment stands a skippable frame
//! with its time, and behind it one with what happened in it. What happened within a second is one line of JSON, a
//! *batch* (`batch`), in which the events and rows of most streams and users are columns of numbers; everything else is
//! a line of its own before it.
//! `zstd -dc FILE | jq -c` prints all lines. A reader finds the segments by the lengths of
//! zstd's blocks, of which it reads a few bytes each, so that there is no index that could be missing or wrong after a
//! crash: a file that ends in the middle of a segment is read up to there.

mod addresses;
mod batch;
mod columns;
mod frames;
mod header;
mod known;
mod pack;
mod player;
mod ranks;
mod reader;
mod recorder;
mod retention;
mod rounding;
mod unpack;
mod unpack_error;
mod writer;

#[cfg(test)]
mod tests;

pub use header::FileHeader;
pub use player::{Played, Player};
pub use reader::{OpenError, Recording};
pub use recorder::{Recorder, RecorderOptions};

/// The extension of the names of recordings.
pub const EXTENSION: &str = "upr";
