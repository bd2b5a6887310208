//! When the frames of a link are transmitted: at once, or with those of other tasks.

use std::{cell::Cell, sync::Arc};

use super::{
    channel_io::ChannelIo,
    channel_shared::ChannelShared,
    handle::Link,
    scratch::{Scratch, with_scratch},
};
use crate::runtime;

thread_local! {
    /// How often this thread had woken up when it last flushed a small message at once.
    static LAST_MESSAGE_FLUSHED: Cell<u64> = const { Cell::new(0) };

    /// Reused list of the channels whose drivers this thread is about to wake.
    static TO_WAKE: Scratch<Arc<ChannelIo>> = const { Scratch::new() };
}

impl Link {
    /// Flushes every channel that has frames to transmit, as far as its socket takes them. Returns whether one had.
    pub(in crate::link) fn flush(self: &Arc<Self>) -> bool {
        let mut next_id = 0;
        let mut has_flushed = false;
        loop {
            let found = self.read(|state| {
                let mut rest = state.channels.range(next_id..);
                rest.find(|(id, _)| state.mux.has_output(**id)).map(|(id, channel)| (*id, channel.clone()))
            });
            let Some((id, channel)) = found else { return has_flushed };
            channel.flush(self);
            has_flushed = true;
            let Some(following) = id.checked_add(1) else { return has_flushed };
            next_id = following;
        }
    }

    /// Transmits the small message that a relay task has just written: at once if it is the first since this thread has
    /// woken up, so that the peer works on it while this thread handles the next one; otherwise [with the
    /// others](Self::wake_drivers).
    pub(in crate::link) fn flush_message(self: &Arc<Self>) {
        let wake_ups = runtime::wake_up_count();
        if LAST_MESSAGE_FLUSHED.get() == wake_ups {
            self.wake_drivers();
        } else if self.flush() {
            LAST_MESSAGE_FLUSHED.set(wake_ups);
        }
    }

    /// Wakes the driver of every channel that has frames to transmit. A driver flushes once the tasks that are ready
    /// now have run, so that their small frames leave in one write (corking).
    pub(in crate::link) fn wake_drivers(&self) {
        with_scratch(&TO_WAKE, |channels| {
            self.read(|state| {
                let with_output = state.channels.iter().filter(|(id, _)| state.mux.has_output(**id));
                channels.extend(with_output.map(|(_, channel)| channel.clone()));
            });
            channels.iter().for_each(|channel| channel.wake_driver());
        });
    }

    /// Returns whether the frames that are queued for a channel have to be sent before it is removed: no other channel
    /// and no resumption will bring them to the peer. Those of a lost channel are retransmitted instead.
    pub(in crate::link) fn has_last_frames(&self, channel: &ChannelShared) -> bool {
        channel.is_retiring() || self.read(|state| state.resume_grace.is_zero())
    }
}
