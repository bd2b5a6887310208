use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::ProtocolInspector;
use crate::telemetry::StreamStats;

/// Shows a stream's bytes to a [`ProtocolInspector`] as they pass.
///
/// A chunk of a body, and any chunk once nothing more is to be learnt, is left out without a lock. The counts are
/// only ever changed by whoever moves bytes in that direction, one at a time; the one exception is the end of it all,
/// and if that is overwritten the next look at the sniffer finds it.
#[derive(Debug)]
pub(crate) struct StreamInspector {
    /// How many of the next bytes of each direction hold nothing to learn.
    up: AtomicU64,
    down: AtomicU64,
    sniffer: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// No byte has passed; nothing is allocated.
    Fresh,
    Live(Box<ProtocolInspector>),
    Over,
}

impl StreamInspector {
    /// One that shows everything, or nothing.
    pub(crate) fn new(on: bool) -> Self {
        let (skip, state) = if on { (0, State::Fresh) } else { (ProtocolInspector::FOREVER, State::Over) };
        Self { up: skip.into(), down: skip.into(), sniffer: Mutex::new(state) }
    }

    /// The user has sent `bytes`. Call it before anybody else can see them: an answer must not come first.
    pub(crate) fn inspect_upload(&self, bytes: &[u8], stats: &StreamStats) {
        if !left_out(&self.up, bytes.len()) {
            self.look(&self.up, [bytes], stats, ProtocolInspector::from_user);
        }
    }

    /// The first `n` bytes of `queue` have gone to the user.
    pub(crate) fn inspect_download(&self, queue: &VecDeque<Bytes>, n: usize, stats: &StreamStats) {
        if !left_out(&self.down, n) {
            let gone = queue.iter().scan(n, |left, piece| {
                let gone = piece.len().min(*left);
                *left -= gone;
                (gone > 0).then(|| &piece[..gone])
            });
            self.look(&self.down, gone, stats, ProtocolInspector::from_target);
        }
    }

    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        matches!(*self.sniffer.lock(), State::Over)
    }

    #[cold]
    fn look<'a>(
        &self,
        count: &AtomicU64,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        stats: &StreamStats,
        show: impl Fn(&mut ProtocolInspector, &[u8]) -> u64,
    ) {
        let mut state = self.sniffer.lock();
        if let State::Fresh = *state {
            *state = State::Live(Box::default());
        }
        let State::Live(sniffer) = &mut *state else {
            count.store(ProtocolInspector::FOREVER, Relaxed);
            return;
        };
        let mut skip = count.load(Relaxed);
        for piece in pieces {
            // Where a body ends with the piece, the sniffer is told so at once: the next request may come first.
            match usize::try_from(skip).ok().and_then(|skip| piece.get(skip..)) {
                Some(shown) => skip = show(sniffer, shown),
                None if skip == ProtocolInspector::FOREVER => break,
                None => skip -= piece.len() as u64,
            }
        }
        count.store(skip, Relaxed);
        if let Some(content) = sniffer.take_news() {
            stats.set_content(content);
        }
        if sniffer.is_over() {
            *state = State::Over;
            self.up.store(ProtocolInspector::FOREVER, Relaxed);
            self.down.store(ProtocolInspector::FOREVER, Relaxed);
        }
    }
}

/// Whether the next `n` bytes hold nothing to learn, and what follows them is not known to do.
fn left_out(count: &AtomicU64, n: usize) -> bool {
    let (skip, n) = (count.load(Relaxed), n as u64);
    if skip != ProtocolInspector::FOREVER && skip > n {
        count.store(skip - n, Relaxed);
    }
    skip > n
}
