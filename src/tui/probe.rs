//! The cockpit without a terminal, for measuring: `benches/frames.rs` times what a tick and a frame cost.

use std::{fmt, sync::Arc, time::Instant};

use ratatui::layout::Size;

use super::{
    Labels,
    model::Model,
    msg::Msg,
    terminal::{FrameWriter, Key},
    theme::Theme,
    update::{sample, update},
    view,
};
use crate::telemetry::{Event, Sampler, Telemetry};

/// A cockpit without a terminal.
pub struct Probe {
    /// The telemetry of the server that the cockpit shows.
    telemetry: Arc<Telemetry>,
    /// The lifecycle events of the server that have not been applied yet.
    events: tokio::sync::broadcast::Receiver<Event>,
    /// Takes snapshots of the telemetry, and reuses their allocations.
    sampler: Sampler,
    /// The state of the cockpit.
    model: Model,
    /// The writer that compares each frame with the previous one.
    screen: FrameWriter,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    /// Creates a cockpit that shows this server on a terminal of `width` columns and `height` rows.
    pub fn new(telemetry: Arc<Telemetry>, width: u16, height: u16) -> Self {
        let size = Size::new(width, height);
        let model = Model::new(Labels::default(), Theme::dark(), size, Instant::now());
        let events = telemetry.subscribe();
        Self { telemetry, events, sampler: Sampler::default(), model, screen: FrameWriter::new(size) }
    }

    /// Applies pending lifecycle events to the model, and takes a snapshot of the server.
    pub fn collect(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            update(&mut self.model, Msg::Event(event), Instant::now());
        }
        self.sampler.sample(&self.telemetry, &[]);
    }

    /// Applies the snapshot that was taken last to the model.
    pub fn digest(&mut self) {
        sample(&mut self.model, self.sampler.snapshot(), Instant::now());
    }

    /// Draws a frame, compares it with the last one, and returns the bytes that would be written.
    pub fn frame(&mut self) -> &[u8] {
        let model = &self.model;
        self.screen.compose(|buf| view::draw(model, buf)).unwrap_or_default()
    }

    /// Applies a key press for each character.
    pub fn press(&mut self, keys: &str) {
        for c in keys.chars() {
            update(&mut self.model, Msg::Key(Key::char(c)), Instant::now());
        }
    }
}
