//! The cockpit as a whole: keys to state, state to screen. Times are injected; the traffic comes from a real hub.

mod fixture;
mod look;
mod reducer;
mod safety;
mod screens;
mod table;
