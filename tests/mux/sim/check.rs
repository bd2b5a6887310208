//! Ends a script, and checks the outcome.

use std::collections::VecDeque;

use super::{SIDES, SimulatedLink};

impl SimulatedLink {
    /// Ends the link: all channels are lost, and none is established in time.
    pub fn end(&mut self) {
        self.seen.links_ended += 1;
        self.channels.iter_mut().for_each(|channel| channel.is_broken = true);
        for side in SIDES {
            (0..self.channels.len()).for_each(|index| self.detect_loss(side, index));
            self.mux[side].abort_streams();
            self.events(side);
            self.channels.iter_mut().for_each(|channel| channel.in_flight_to[side].clear());
        }
        // What was received is still delivered.
        for side in SIDES {
            self.streams.clone().into_iter().for_each(|stream| self.consume(side, stream, u64::MAX));
            while self.mux[side].poll_event().is_some() {}
        }
    }

    /// Lets all streams finish: every loss is detected, no channel stalls, both sides read and finish. The frames in
    /// flight on broken channels are lost.
    pub fn settle(&mut self) {
        self.detect_all_losses();
        SIDES.iter().for_each(|&side| self.events(side));
        for _ in 0..200 {
            if SIDES.iter().all(|&side| self.is_idle(side)) {
                return;
            }
            for side in SIDES {
                for &stream in &self.streams.clone() {
                    self.mux[side].accept(stream);
                    self.mux[side].set_paused(stream, false);
                    self.consume(side, stream, u64::MAX);
                    if let Some(state) = self.sides[side].get_mut(&stream) {
                        state.is_finished = true;
                        self.mux[side].finish(stream);
                    }
                }
                for index in 0..self.channels.len() {
                    self.transmit(side, index, 1000);
                    self.deliver(1 - side, index, 1000);
                }
                self.events(side);
            }
            // The proxy may have closed a retired channel.
            self.detect_all_losses();
        }
    }

    /// Has both sides detect every loss, and resumes the link if no channel is left. Ends all stalls.
    fn detect_all_losses(&mut self) {
        for index in 0..self.channels.len() {
            self.channels[index].is_stalled = false;
            SIDES.iter().for_each(|&side| self.detect_loss(side, index));
            if self.channels[index].is_broken {
                self.channels[index].in_flight_to.iter_mut().for_each(VecDeque::clear);
            }
        }
        if self.channels.iter().all(|channel| channel.is_broken) {
            self.resume();
        }
    }

    /// Checks that no more than the budget is reserved, and that what both sides have buffered or promised is reserved.
    pub(super) fn check_budget(&self) {
        let budget = &self.config.budget;
        let flows = |side: usize, stream: u32| {
            let send = self.mux[side].send_flow(stream).map_or(0, |flow| flow.unsent + flow.in_flight);
            send + self.mux[side].recv_flow(stream).map_or(0, |flow| flow.buffered + flow.credit)
        };
        let committed: u64 =
            self.streams.iter().flat_map(|&stream| SIDES.map(|side| flows(side, stream))).sum();
        assert!(committed <= budget.used(), "{committed} bytes are committed, {} reserved", budget.used());
        assert!(budget.used() <= budget.total(), "{} of {}", budget.used(), budget.total());
    }

    /// Returns whether a side has no stream, nothing to send, and nothing to receive.
    fn is_idle(&self, side: usize) -> bool {
        let has_output = |index| self.mux[side].has_output(index as u16);
        self.mux[side].stream_count() == 0
            && self.channels.iter().all(|channel| channel.in_flight_to[side].is_empty())
            && !(0..self.channels.len()).any(has_output)
    }

    /// Checks that every stream has ended at both sides, that their outcomes match, and that nothing is left over.
    pub fn check(&mut self) {
        assert_eq!(self.config.budget.used(), 0, "part of the budget is still reserved");
        for side in SIDES {
            assert_eq!(self.mux[side].stream_count(), 0, "streams left at side {side}");
            assert!(self.is_idle(side), "side {side} still has frames");
        }
        for &stream in &self.streams {
            let [server, proxy] = SIDES.map(|side| self.sides[side].get(&stream));
            let server = server.expect("the stream was opened");
            match (server.outcome, proxy.map(|state| state.outcome)) {
                (Some(Ok(())), Some(Some(Ok(())))) => {
                    let proxy = proxy.expect("the stream was opened");
                    assert_eq!(server.written, proxy.consumed);
                    assert_eq!(proxy.written, server.consumed);
                    self.seen.clean_ends += 1;
                    continue;
                }
                // It was reset before its OPEN was sent, or the OPEN was lost with the last channel.
                (Some(Err(_)), None) => {}
                (Some(Err(_)), Some(Some(Err(_)))) => {}
                // One side had all data of both directions when the other reset the stream: no data is lost.
                (Some(a), Some(Some(b))) => {
                    let proxy = proxy.expect("the stream was opened");
                    let clean = if a.is_ok() { server } else { proxy };
                    let other = if a.is_ok() { proxy } else { server };
                    assert!(a.is_ok() != b.is_ok());
                    assert_eq!((clean.consumed, other.consumed), (other.written, clean.written));
                }
                (a, b) => panic!("stream {stream} never ended: {a:?} {b:?}"),
            }
            self.seen.resets += 1;
        }
    }
}
