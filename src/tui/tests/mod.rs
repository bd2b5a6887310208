//! Tests of the cockpit as a whole: from keys to state, from state to screen. All times are injected.

mod accidents;
mod fixture;
mod interaction;
mod reducer;
mod safety;
mod screens;
mod states;
mod steering;
mod table;
