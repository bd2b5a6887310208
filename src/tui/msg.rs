//! What comes into the model, and what it wants done: the only two ways between it and the world.

use ratatui::layout::Size;

use super::{Exit, terminal::Key};
use crate::{
    control::{Command, Reply},
    telemetry::Event,
};

/// Names an order until its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OrderId(pub(crate) u64);

/// Something happened.
#[derive(Debug, Clone)]
pub(crate) enum Msg {
    /// A key was pressed.
    Key(Key),
    /// The terminal has another size.
    Resized(Size),
    /// Somebody outside asked us to end.
    Interrupted,
    /// A lifecycle event.
    Event(Event),
    /// So many lifecycle events came faster than they were taken; a sample follows.
    Missed(u64),
    /// What became of an order.
    Answered(OrderId, Reply),
    /// A suspension that was asked for is not possible.
    NoShell,
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Order it, and say what became of it.
    Order(OrderId, Command),
    /// Tell the host to drain.
    Drain,
    /// End the cockpit.
    Exit(Exit),
    /// Give the terminal back and stop, until the shell brings us back.
    Suspend,
    /// Paint everything.
    Repaint,
}
