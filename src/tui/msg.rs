//! Messages that enter the reducer, and effects that leave it: the only two connections between the model and the
//! outside.

use std::time::Instant;

use ratatui::layout::Size;

use super::{
    command_id::CommandId,
    exit::Exit,
    source::{PlaybackCommand, SourceState},
    terminal::{InputEvent, Key, MouseEvent},
};
use crate::{
    control::{Command, CommandReply},
    telemetry::Event,
};

/// Something that happened outside of the model. Samples are not messages: see [`sample`](super::update::sample).
#[derive(Debug, Clone)]
pub(crate) enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Several keys arrived at once: a paste on a terminal without bracketed paste, or keys that a slow connection
    /// held up. None of them can have been pressed in answer to what an earlier one brought to the screen.
    KeyBurst(Vec<Key>),
    /// Text was pasted.
    Pasted(String),
    /// A mouse button was pressed, or the wheel moved by one notch.
    Mouse(MouseEvent),
    /// The terminal has a new size.
    Resized(Size),
    /// SIGINT or SIGTERM arrived.
    Interrupted,
    /// The server emitted a lifecycle event.
    Event(Event),
    /// This many lifecycle events were dropped, because they came faster than the cockpit took them. The next sample
    /// contains their result.
    Missed(u64),
    /// The server replied to a command.
    Replied(CommandId, CommandReply),
    /// A file was written to this path, or could not be written for this reason.
    FileWritten(Result<String, String>),
    /// The program cannot be suspended: no shell would resume it.
    NoShell,
    /// What follows is about another server, or another time.
    Reset,
    /// The time of what follows, in a replay.
    DataTime(Instant),
    /// Where the data comes from has changed.
    SourceState(SourceState),
    /// A command to the replay had no effect, for this reason.
    NotPlayed(String),
}

impl Msg {
    /// Returns the messages for input that was read at once: consecutive keys are one burst.
    pub(crate) fn of_input(events: impl IntoIterator<Item = InputEvent>) -> Vec<Self> {
        let mut messages: Vec<Self> = Vec::new();
        for event in events {
            match (event, messages.last_mut()) {
                (InputEvent::Key(key), Some(Self::KeyBurst(keys))) => keys.push(key),
                (InputEvent::Key(key), Some(Self::Key(first))) => {
                    let burst = Self::KeyBurst(vec![*first, key]);
                    messages.pop();
                    messages.push(burst);
                }
                (InputEvent::Key(key), _) => messages.push(Self::Key(key)),
                (InputEvent::Mouse(event), _) => messages.push(Self::Mouse(event)),
                (InputEvent::Paste(text), _) => messages.push(Self::Pasted(text)),
            }
        }
        messages
    }
}

/// Something that the runtime has to do outside of the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Send the command to the server, and deliver its reply as [`Msg::Replied`].
    SendCommand(CommandId, Command),
    /// Ask the host to drain.
    Drain,
    /// End the cockpit.
    Exit(Exit),
    /// Restore the terminal and suspend the process, until the shell resumes it.
    Suspend,
    /// Paint the whole screen, not only what has changed.
    Repaint,
    /// Ask the terminal to put this text into the clipboard (OSC 52).
    Copy(String),
    /// Write a file, and deliver its path as [`Msg::FileWritten`].
    Save(ExportFile),
    /// Write the screen as text to a file, and deliver its path as [`Msg::FileWritten`].
    SaveScreenshot,
    /// Enable or disable mouse reports of the terminal.
    Mouse(bool),
    /// Control the replay.
    Play(PlaybackCommand),
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportFile {
    /// What the file contains, as a part of its name: `streams`.
    pub(crate) name: &'static str,
    /// The extension of the file name, without the dot: `csv`.
    pub(crate) extension: &'static str,
    /// The contents of the file.
    pub(crate) text: String,
}
