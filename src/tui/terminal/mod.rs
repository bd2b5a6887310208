//! The terminal: taken over, read, painted, and given back whatever happens.

mod input;
mod keys;
mod panic;
mod screen;
mod signals;
mod tty;

pub(crate) use input::{Input, Woken};
#[cfg(test)]
pub(crate) use keys::Parser;
pub(crate) use keys::{Key, KeyCode, KeyModifiers, Mouse};
pub(crate) use panic::PanicHook;
pub(crate) use screen::Screen;
pub(crate) use signals::Signals;
pub(crate) use tty::Tty;
