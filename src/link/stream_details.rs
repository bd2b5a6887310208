//! Reports how a stream flows to the cockpit: windows, queues, bottlenecks. Changes nothing of the stream.

use std::time::Instant;

use super::{
    bottleneck::{ActivityTracker, BottleneckTimer, ByteCounts, receive_bottleneck},
    control::StreamControl,
};
use crate::telemetry::{Bottleneck, StreamDetails, StreamDetailsSource};

impl StreamDetailsSource for StreamControl {
    /// Reads flow control and bottlenecks of the stream; `None` once the mux no longer has it. Samples the stream's
    /// activity.
    fn details(&self) -> Option<StreamDetails> {
        let (endpoint, now) = (self.endpoint(), Instant::now());
        let stream = endpoint.shared().number();
        let (send, recv, health) = self.link().with(|state| {
            let channel = state.mux.primary_channel(stream);
            // `None` while the link is detached. What only the kernel knows is not read under the lock.
            let health = channel
                .and_then(|id| state.channels.get(&id))
                .map(|channel| channel.shared().health(&state.mux, None, now));
            Some((state.mux.send_flow(stream)?, state.mux.recv_flow(stream)?, health))
        })?;
        let report = |timer: &BottleneckTimer| (timer.current(now), timer.times(now));
        let (down, times_down) = report(&endpoint.lock_delivery().bottleneck);
        let (up, times_up) = report(&endpoint.shared().send_bottleneck());
        let bytes = endpoint.shared().stats().map_or(ByteCounts { down: 0, up: 0 }, |stats| ByteCounts {
            down: stats.traffic.down(),
            up: stats.traffic.up(),
        });
        let (is_expecting_data, is_sending) = {
            let mut tracker = endpoint.shared().activity();
            let tracker = tracker.get_or_insert_with(|| Box::new(ActivityTracker::new(bytes)));
            let activity = tracker.sample(bytes, now);
            // While the request itself is still being sent, no response is due.
            let is_response_due = tracker.is_awaiting_response() && !activity.is_active_up && up.is_none();
            (activity.is_active_down || is_response_due, activity.is_active_up)
        };
        Some(StreamDetails {
            download_window: recv.window,
            upload_window: send.window,
            download_buffered: recv.buffered,
            upload_buffered: send.unsent,
            upload_in_flight: send.in_flight,
            download_bottleneck: down
                .or_else(|| receive_bottleneck(&recv, health.as_ref(), is_expecting_data)),
            upload_bottleneck: up
                .or(health.is_none().then_some(Bottleneck::Channel))
                .or(is_sending.then_some(Bottleneck::User)),
            bottleneck_times: times_down.or_longer(times_up),
            failovers: endpoint.shared().failovers(),
            retransmitted_bytes: send.retransmitted,
            connect_latency: None,
            time_to_first_byte: None,
        })
    }
}
