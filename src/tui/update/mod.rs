//! The reducer: takes a message and the model, changes the model, and returns the effects that have to be performed
//! outside. Nothing here reads a clock, a descriptor, a channel, or draws: the time comes with each message.

mod batch;
mod columns;
mod dialog;
mod dispatch;
mod events;
mod help;
mod input;
mod limits;
mod mouse;
mod navigation;
mod prompt;
mod proxies;
mod selection;
mod shutdown;
mod streams;

use std::time::Instant;

use super::{
    format,
    labels::Role,
    model::{Model, NoticeLevel},
    msg::{Effect, Msg},
};
use crate::telemetry::Snapshot;

/// Applies a message that arrived at `now` to the model, and returns the effects that the runtime has to perform.
pub(crate) fn update(model: &mut Model, msg: Msg, now: Instant) -> Vec<Effect> {
    advance(model, now);
    match msg {
        Msg::Key(key) => return input::press(model, key),
        Msg::KeyBurst(keys) => return input::burst(model, &keys),
        Msg::Pasted(text) => input::paste(model, &text),
        Msg::Mouse(event) => {
            if let Some(intent) = mouse::intent_of(model, event) {
                return dispatch::perform(model, intent);
            }
        }
        Msg::Interrupted => return shutdown::interrupted(model),
        Msg::Resized(size) => {
            model.size = size;
            if !model.layout().has_table {
                // An overlay that cannot be drawn must not take keys.
                shutdown::close_overlay(model);
            }
            model.refresh_rows();
            return vec![Effect::Repaint];
        }
        Msg::Event(event) => {
            events::apply(model, &event.kind);
            model.journal.push(&event);
        }
        Msg::Missed(count) => {
            model.server_status.missed_events += count;
            let events = format::counted(count, "event");
            model.notify(
                NoticeLevel::Warning,
                format!("{events} missed: they came too fast; rows and figures are right all the same"),
            );
        }
        Msg::Replied(id, reply) => return batch::handle_reply(model, id, reply),
        Msg::FileWritten(Ok(path)) => model.notify(NoticeLevel::Success, format!("written to {path}")),
        Msg::FileWritten(Err(error)) => model.notify(NoticeLevel::Warning, error),
        // The source lets it run backwards only with a reset.
        Msg::DataTime(time) => model.live.now = time,
        Msg::Reset => model.reset(),
        Msg::SourceState(state) => model.source_state = state,
        Msg::NotPlayed(why) => model.notify(NoticeLevel::Info, why),
        Msg::NoShell => model.notify(NoticeLevel::Info, "cannot suspend: no shell with job control"),
    }
    Vec::new()
}

/// Advances the time. It never runs backwards, even where messages carry older times. In a replay the data has a time
/// of its own, which the source tells.
fn advance(model: &mut Model, now: Instant) {
    model.now = model.now.max(now);
    if model.labels.role != Role::Replay {
        model.live.now = model.live.now.max(now);
    }
}

/// Applies a snapshot of the server that was taken at `now`: updates all rows, removes an expired notice, and returns
/// the effects that send queued commands. Not a message of [`update`], because a snapshot is large and its
/// allocations are reused.
pub(crate) fn sample(model: &mut Model, snapshot: &Snapshot, now: Instant) -> Vec<Effect> {
    advance(model, now);
    let (ui_now, now) = (model.now, model.live.now);
    model.server_status.has_sample = true;
    model.live.sample(snapshot);
    // Their events may have been missed, and were sent before a cockpit attached.
    model.server_status.is_draining |= snapshot.totals.draining;
    if let Some(fingerprint) = &snapshot.tls_fingerprint {
        model.labels.set_fingerprint(fingerprint);
    }
    if let Some(detail) = &mut model.detail_screen.open
        && let Some(row) = model.live.streams.get(detail.row)
    {
        let number = model.live.streams.snapshot_number(detail.row);
        let selected = snapshot.selected.iter().find(|stream| Some(stream.number) == number);
        let channel = row.channel.and_then(|id| model.live.proxies.channel(id));
        detail.record(row, channel, selected.map(|stream| &stream.details), now);
    }
    let selected = model.selection();
    model.refresh_rows();
    if selected.is_some() && model.selection() != selected {
        model.selection_moved_at = Some(ui_now);
    }
    model.expire_notice();
    if let Some(text) = model.pending_commands.overdue(ui_now) {
        model.notify(NoticeLevel::Warning, text);
    }
    batch::send_queued(model)
}
