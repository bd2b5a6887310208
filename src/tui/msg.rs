//! What comes into the model, and what it wants done: the only two ways between it and the world.

use ratatui::layout::Size;

use super::{
    Exit,
    terminal::{Key, MouseEvent},
};
use crate::{
    control::{Command, CommandReply},
    telemetry::Event,
};

/// Identifies a sent command until its reply arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub(crate) u64);

/// Something happened.
#[derive(Debug, Clone)]
pub(crate) enum Msg {
    /// A key was pressed.
    Key(Key),
    /// A click, or a notch of the wheel.
    Mouse(MouseEvent),
    /// The terminal has another size.
    Resized(Size),
    /// Somebody outside asked us to end.
    Interrupted,
    /// A lifecycle event.
    Event(Event),
    /// So many lifecycle events came faster than they were taken; a sample follows.
    Missed(u64),
    /// What became of an order.
    Replied(CommandId, CommandReply),
    /// Where a file was written, or why not.
    FileWritten(Result<String, String>),
    /// A suspension that was asked for is not possible.
    NoShell,
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Order it, and say what became of it.
    SendCommand(CommandId, Command),
    /// Tell the host to drain.
    Drain,
    /// End the cockpit.
    Exit(Exit),
    /// Give the terminal back and stop, until the shell brings us back.
    Suspend,
    /// Paint everything.
    Repaint,
    /// Ask the terminal to put this into the clipboard.
    Copy(String),
    /// Write a file, and say where.
    Save(ExportFile),
    /// Write the screen as text to a file, and say where.
    SaveScreenshot,
    /// Ask the terminal to report clicks, or not to.
    Mouse(bool),
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportFile {
    /// What is in it, as a part of its name.
    pub(crate) name: &'static str,
    pub(crate) extension: &'static str,
    pub(crate) text: String,
}
