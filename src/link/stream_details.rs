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
        let received = report(&endpoint.lock_delivery().bottleneck);
        let sent = report(&endpoint.shared().send_bottleneck());
        // At the proxy the local socket is that of the target.
        let is_at_proxy = endpoint.shared().served().is_some();
        let bytes = endpoint.shared().shown().map_or(ByteCounts { down: 0, up: 0 }, |stats| ByteCounts {
            down: stats.traffic.down(),
            up: stats.traffic.up(),
        });
        let (activity, is_response_due) = {
            let mut tracker = endpoint.shared().activity();
            let tracker = tracker.get_or_insert_with(|| Box::new(ActivityTracker::new(bytes)));
            (tracker.sample(bytes, now), tracker.is_awaiting_response())
        };
        let no_channel = health.is_none().then_some(Bottleneck::Channel);
        if is_at_proxy {
            let ((up, times_up), (down, times_down)) = (received, sent);
            let swapped = |by: Option<Bottleneck>| by.map(Bottleneck::seen_from_proxy);
            let up = up.or_else(|| receive_bottleneck(&recv, health.as_ref(), activity.is_active_up));
            // While the request itself still arrives, no response is due.
            let is_target_due =
                activity.is_active_down || (is_response_due && !activity.is_active_up && up.is_none());
            return Some(StreamDetails {
                download_window: send.window,
                upload_window: recv.window,
                download_buffered: send.unsent,
                upload_buffered: recv.buffered,
                download_in_flight: send.in_flight,
                // A paused stream is not read, and so never found blocked.
                download_bottleneck: swapped(down)
                    .or(send.is_paused.then_some(Bottleneck::Operator))
                    .or(no_channel)
                    .or(is_target_due.then_some(Bottleneck::Target)),
                upload_bottleneck: swapped(up),
                bottleneck_times: times_down.or_longer(times_up).seen_from_proxy(),
                failovers: endpoint.shared().failovers(),
                retransmitted_bytes: send.retransmitted,
                ..StreamDetails::default()
            });
        }
        let ((down, times_down), (up, times_up)) = (received, sent);
        // While the request itself is still being sent, no response is due.
        let is_expecting_data =
            activity.is_active_down || (is_response_due && !activity.is_active_up && up.is_none());
        Some(StreamDetails {
            download_window: recv.window,
            upload_window: send.window,
            download_buffered: recv.buffered,
            upload_buffered: send.unsent,
            upload_in_flight: send.in_flight,
            download_bottleneck: down
                .or_else(|| receive_bottleneck(&recv, health.as_ref(), is_expecting_data)),
            upload_bottleneck: up.or(no_channel).or(activity.is_active_up.then_some(Bottleneck::User)),
            bottleneck_times: times_down.or_longer(times_up),
            failovers: endpoint.shared().failovers(),
            retransmitted_bytes: send.retransmitted,
            ..StreamDetails::default()
        })
    }
}
