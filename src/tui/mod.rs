//! The cockpit: a terminal front end that shows every stream while it is open, and sends the operator's commands.
//!
//! It reads events and snapshots from a [`Source`], sends commands to it, and runs on a thread of its own:
//!
//! ```text
//! keys, mouse, command line ─► Intent ─┐                   ┌─► effects: send a command, drain, exit, suspend, write a file
//! events, replies, signals ────────────┼─► update(&mut Model) ─► view::draw(&Model) ─► diff ─► one write
//! samples ─────────────────────────────┘                   (only when something has changed)
//! ```
//!
//! `update` reads no clock and no descriptor, and `view` changes nothing: only the runtime performs I/O. It never waits
//! for a reply: [`Source::try_send`] queues a command, and a command without a reply is a state of the model.

mod columns;
mod command_id;
mod command_line;
mod completion;
mod exit;
mod files;
pub(crate) mod format;
mod help;
mod intent;
mod keymap;
mod labels;
mod layout;
mod log_layer;
mod model;
mod msg;
mod options;
#[doc(hidden)]
pub mod probe;
mod runtime;
mod settings;
mod source;
mod terminal;
mod theme;
mod update;
mod view;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use command_id::CommandId;
pub use exit::{Error, Exit};
pub use labels::{Labels, Role, Subject};
pub use log_layer::LogLayer;
pub use options::Options;
pub use settings::{RawSettings, Settings, SettingsError};
pub use source::{
    InProcessSource, Playback, PlaybackCommand, PollRequest, Source, SourceState, SourceUpdate,
};
pub use terminal::{is_in_foreground, restore as restore_terminal};

use runtime::Runtime;
use terminal::{PanicHook, Tty};

use crate::telemetry::LogRing;

/// Takes the terminal over and shows the cockpit until the operator quits, the host stops it, or the terminal
/// disappears. Blocks: call it on a thread of its own.
///
/// The terminal is restored before this returns, also after a panic of the cockpit. A panic of any other thread is
/// logged (`tracing`, target `panic`) and the cockpit continues. While it runs, SIGINT and SIGTERM drain, and nothing
/// else may write to the terminal. Install [`LogLayer`] behind a filter *before* calling this, for the log
/// screen; do not call `tui_logger::init_logger`, whose thread would wake 100 times per second to do what the cockpit
/// does with each sample.
///
/// # Errors
/// [`Error::Terminal`] where there is no terminal, or it cannot be configured or polled; [`Error::Panicked`] where
/// the cockpit panicked. The tunnel continues in both cases.
pub fn run(options: Options) -> Result<Exit, Error> {
    // The filter around `LogLayer` decides which records are shown.
    tui_logger::set_default_level(tui_logger::LevelFilter::Trace);
    tui_logger::set_hot_buffer_depth(LogRing::CAPACITY);
    tui_logger::move_events();
    // The theme chooses the colours. Under NO_COLOR crossterm would drop whole attribute changes, and with them the
    // reversal of the selected row.
    crossterm::style::force_color_output(true);
    let tty = Tty::open()?;
    let hook = PanicHook::install(tty.clone());
    let result = catch_unwind(AssertUnwindSafe(|| Runtime::new(options, tty.clone())?.run()));
    // In this order: restore the terminal, remove the hook, report the result.
    tty.leave();
    drop(hook);
    match result {
        Ok(exit) => Ok(exit?),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Error::Panicked(text.unwrap_or_else(|| "panic".to_owned())))
        }
    }
}
