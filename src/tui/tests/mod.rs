//! Tests of the cockpit as a whole: from keys to state, from state to screen. All times are injected.

mod accidents;
mod endings;
mod fixture;
mod guests;
mod interaction;
mod labels;
mod log;
mod names;
mod orientation;
mod reducer;
mod returning_users;
mod safety;
mod screens;
mod selection;
mod states;
mod steering;
mod table;
mod tolerance;
