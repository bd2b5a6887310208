//! The terminal device: input, output, signals and restoration. Nothing here knows what the cockpit shows.

mod frame;
mod input;
mod keys;
mod panic;
mod signals;
mod tty;

pub(crate) use frame::FrameWriter;
pub(crate) use input::{TerminalInput, WaitOutcome};
#[cfg(test)]
pub(crate) use keys::InputParser;
pub(crate) use keys::{InputEvent, Key, KeyCode, KeyModifiers, MouseEvent};
pub(crate) use panic::PanicHook;
pub(crate) use signals::TerminalSignals;
pub(crate) use tty::Tty;
pub use tty::{is_in_foreground, restore};
