//! The event loop of the cockpit: waits for input, samples and replies, turns them into messages for the reducer,
//! performs the effects that it returns, and paints. This is the only part of the cockpit that does I/O or reads a
//! clock.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    Exit, Options,
    command_id::CommandId,
    files,
    model::Model,
    msg::{Effect, ExportFile, Msg},
    source::{PollRequest, SourceUpdate},
    terminal::{FrameWriter, TerminalInput, TerminalSignals, Tty, WaitOutcome},
    update::{sample, update},
    view,
};
use crate::control::{Command, CommandError, CommandReply};

/// The longest time between two samples, however much one costs.
const MAX_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two samples while no stream is open and no total changes: waking is the only cost then.
const IDLE_SAMPLE_INTERVAL: Duration = Duration::from_millis(300);
/// Sampling uses at most 1/50 of a core: the interval is at least this many times the mean cost of a sample. With
/// 100,000 streams samples come more rarely, rather than at the expense of forwarding.
const INTERVAL_PER_SAMPLE_COST: u32 = 50;
/// The weight of the old mean in the moving mean of the cost, plus one. Once a second the rows are sorted again; that
/// one expensive sample alone must not delay the next one.
const COST_MEAN_SAMPLES: u32 = 8;
/// The interval is rounded up to a multiple of this many milliseconds: it is shown on the screen and must not
/// flicker.
const INTERVAL_STEP_MS: u64 = 20;
/// The shortest time between two frames while only figures change: 30 frames per second.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// The shortest time between two frames after input: short enough for a key to seem instant, long enough that a key
/// held down does not paint without end.
const FRAME_INTERVAL_AFTER_INPUT: Duration = Duration::from_millis(8);

/// How often replies are polled for while commands wait for them: a batch sends its next commands when they arrive.
const REPLY_POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How long after the last command replies are polled for that often: a server that does not reply must not keep the
/// cockpit awake.
const REPLY_POLL_DURATION: Duration = Duration::from_secs(1);

/// How long the cockpit waits at most before it looks whether the host has stopped it, or the terminal has given it the
/// foreground back: about as long as an idle cockpit waits for the next sample anyway.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// Enables reports of mouse buttons and the wheel (mode 1000), in the SGR form, which has no limit of coordinates
/// (1006).
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
/// Disables what [`MOUSE_ON`] enabled.
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// A command that was sent to the server and has not been answered yet.
#[derive(Debug)]
struct AwaitedReply {
    /// The number by which the reply names the command.
    id: CommandId,
    /// The command, which the log names together with its reply.
    command: Command,
}

/// The running cockpit: the model, and the terminal, signals and server around it.
pub(crate) struct Runtime {
    /// The server, settings and callbacks that the host provided.
    options: Options,
    /// The terminal device, shared with the panic hook, which restores it.
    tty: Arc<Tty>,
    /// The signals that this process receives, such as SIGTERM and SIGWINCH.
    signals: TerminalSignals,
    /// The keyboard, mouse and paste input of the terminal.
    input: TerminalInput,
    /// Writes to the terminal what differs between two frames.
    screen: FrameWriter,
    /// The state of the cockpit, which the reducer changes and the view draws.
    model: Model,
    /// Commands sent to the server, until their replies arrive.
    awaited_replies: Vec<AwaitedReply>,
    /// When a command was last sent to the server.
    last_command_at: Instant,
    /// Whether the server's command queue was full. No later command is sent before the next sample or reply, so that
    /// commands keep their order.
    queue_is_full: bool,
    /// When the next snapshot of the server is due.
    next_sample: Instant,
    /// The moving mean of the CPU time that one sample costs this thread.
    sample_cost: Duration,
    /// When the last frame was painted.
    last_frame: Instant,
    /// Whether the model has changed since the last frame was painted.
    is_dirty: bool,
    /// Whether a key, mouse event or resize has been applied to the model and is not on the screen yet.
    is_input_pending: bool,
    /// Whether this process is in the background of its terminal, after `^Z` and `bg`. Until it is in the foreground
    /// again the cockpit does not use the terminal: that would stop the process, with all of its streams.
    is_in_background: bool,
    /// Why the cockpit ends; `None` while it runs.
    exit: Option<Exit>,
}

impl Runtime {
    /// Creates the runtime on a terminal that is in raw mode already. Registers the signal handlers, and makes the
    /// first sample and the first frame due at once.
    pub(crate) fn new(options: Options, tty: Arc<Tty>) -> io::Result<Self> {
        let now = Instant::now();
        let size = tty.size();
        let mut model = Model::new(options.labels.clone(), options.settings.theme.clone(), size, now);
        model.apply_settings(&options.settings, options.source.capabilities());
        let mut screen = FrameWriter::new(size);
        if model.display.mouse {
            screen.queue_sequence(MOUSE_ON);
        }
        Ok(Self {
            signals: TerminalSignals::listen(&options.ignored_signals)?,
            input: TerminalInput::new(now),
            screen,
            model,
            awaited_replies: Vec::new(),
            last_command_at: now,
            queue_is_full: false,
            next_sample: now,
            sample_cost: Duration::ZERO,
            // So that the first frame is due at once.
            last_frame: now.checked_sub(FRAME_INTERVAL).unwrap_or(now),
            is_dirty: true,
            is_input_pending: true,
            is_in_background: false,
            exit: None,
            options,
            tty,
        })
    }

    /// Runs the event loop until the operator quits, the host stops the cockpit or the terminal disappears. Returns
    /// why it ended.
    pub(crate) fn run(mut self) -> io::Result<Exit> {
        let mut events = Vec::new();
        loop {
            if self.options.stop.load(SeqCst) {
                return Ok(Exit::Stopped);
            }
            if self.handle_signals()? {
                return Ok(Exit::TerminalGone);
            }
            if self.is_in_background && self.tty.is_in_foreground() {
                self.resume()?;
            }
            let now = Instant::now();
            if now >= self.next_sample {
                self.sample(now)?;
            }
            self.collect_replies()?;
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            let is_paint_due = self.is_dirty && !self.is_in_background && Instant::now() >= self.frame_due();
            if is_paint_due && self.paint().is_err() {
                // Writing fails only after the terminal has disappeared.
                return Ok(Exit::TerminalGone);
            }
            let mut deadline = self.next_sample.min(Instant::now() + MAX_WAIT);
            if self.is_dirty && !self.is_in_background {
                deadline = deadline.min(self.frame_due());
            }
            if !self.awaited_replies.is_empty() && self.last_command_at.elapsed() < REPLY_POLL_DURATION {
                deadline = deadline.min(Instant::now() + REPLY_POLL_INTERVAL);
            }
            let tty = &self.tty;
            match self.input.wait(tty, !self.is_in_background, &mut self.signals, deadline, &mut events)? {
                WaitOutcome::Ready => {}
                WaitOutcome::TerminalGone => return Ok(Exit::TerminalGone),
            }
            for message in Msg::of_input(events.drain(..)) {
                self.is_input_pending = true;
                self.handle(message)?;
                if let Some(exit) = self.exit {
                    return Ok(exit);
                }
            }
        }
    }

    /// Handles the signals that have arrived. Returns whether the terminal hung up.
    fn handle_signals(&mut self) -> io::Result<bool> {
        if self.signals.take_hangup() {
            return Ok(true);
        }
        if self.signals.take_suspend() {
            self.suspend()?;
        }
        if self.signals.take_continue() {
            // After SIGSTOP the terminal was not restored, and the shell may have reset it since.
            self.resume()?;
        }
        if self.signals.take_resize() {
            self.is_input_pending = true;
            self.handle(Msg::Resized(self.tty.size()))?;
        }
        if self.signals.take_terminate() {
            self.handle(Msg::Interrupted)?;
        }
        Ok(false)
    }

    /// Restores the terminal, suspends the process group (SIGTSTP), and continues after SIGCONT.
    fn suspend(&mut self) -> io::Result<()> {
        if !self.signals.has_job_control() {
            return self.handle(Msg::NoShell);
        }
        self.tty.leave();
        self.signals.suspend_process_group();
        self.resume()
    }

    /// Enters raw mode and the alternate screen again after the process was stopped, and repaints; not if the shell
    /// continued it in the background.
    fn resume(&mut self) -> io::Result<()> {
        self.is_in_background = !self.tty.is_in_foreground();
        if self.is_in_background {
            return Ok(());
        }
        self.tty.enter()?;
        if self.model.display.mouse {
            self.screen.queue_sequence(MOUSE_ON);
        }
        self.is_input_pending = true;
        self.handle(Msg::Resized(self.tty.size()))
    }

    /// Polls the source for events, log records and a snapshot, and applies them. Then sets the time of the next
    /// sample by what this one cost.
    fn sample(&mut self, now: Instant) -> io::Result<()> {
        let began = thread_cpu_time();
        let selected: Vec<u64> = self.model.selected_stream_number().into_iter().collect();
        let visible = self.model.visible_streams();
        // While the display is frozen the log is too: the source keeps its newest records.
        let with_log = self.model.frozen.is_none();
        if with_log {
            // In place of tui-logger's own thread, which would wake 100 times per second.
            tui_logger::move_events();
        }
        let (model, is_dirty) = (&mut self.model, &mut self.is_dirty);
        let settings = &self.options.settings;
        let (mut idle, mut effects) = (true, Vec::new());
        let request = PollRequest::Sample { with_log, selected: &selected, visible: &visible };
        self.options.source.poll(request, &mut |item| {
            let message = match item {
                SourceUpdate::Event(event) => Msg::Event(event),
                SourceUpdate::MissedEvents(missed) => Msg::Missed(missed),
                SourceUpdate::Log(record) => return model.log_screen.push(record),
                SourceUpdate::Reply(id, reply) => Msg::Replied(id, reply),
                SourceUpdate::Reset => Msg::Reset,
                SourceUpdate::Time(time) => Msg::DataTime(time),
                SourceUpdate::State(state) => Msg::SourceState(state),
                SourceUpdate::Capabilities(server) => return model.apply_capabilities(settings, server),
                SourceUpdate::Snapshot(snapshot) => {
                    let live = &model.live;
                    let is_changing = !live.streams.order().is_empty() || live.totals != snapshot.totals;
                    idle &= live.streams.open_count() == 0 && snapshot.totals == live.totals;
                    let is_next_second = live.uptime.as_secs() != snapshot.uptime.as_secs();
                    // On an idle server only the uptime changes, once a second.
                    *is_dirty |= is_changing
                        || is_next_second
                        || !model.server_status.has_sample
                        || model.notice.is_some();
                    return effects.extend(sample(model, snapshot, now));
                }
            };
            (idle, *is_dirty) = (false, true);
            effects.extend(update(model, message, now));
        });
        let refresh = self.options.settings.refresh;
        let refresh = if idle { refresh.max(IDLE_SAMPLE_INTERVAL) } else { refresh };
        let cost = thread_cpu_time().saturating_sub(began);
        self.sample_cost = (self.sample_cost * (COST_MEAN_SAMPLES - 1) + cost) / COST_MEAN_SAMPLES;
        self.model.sample_interval = sample_interval(self.sample_cost, refresh);
        // Counted from when this sample was due, so that delays do not add up; a sample that was missed is not made up
        // for.
        self.next_sample =
            (self.next_sample + self.model.sample_interval).max(now + self.model.sample_interval / 2);
        self.queue_is_full = false;
        self.perform(effects)
    }

    /// Takes the replies to commands that have arrived, without waiting for others, and applies them to the model.
    fn collect_replies(&mut self) -> io::Result<()> {
        let mut replies = Vec::new();
        self.options.source.poll(PollRequest::Replies, &mut |item| {
            if let SourceUpdate::Reply(id, reply) = item {
                replies.push((id, reply));
            }
        });
        for (id, reply) in replies {
            self.queue_is_full = false;
            let Some(at) = self.awaited_replies.iter().position(|pending| pending.id == id) else { continue };
            let command = self.awaited_replies.remove(at).command;
            let effects = self.handle_reply(id, &command, reply);
            self.perform(effects)?;
        }
        Ok(())
    }

    /// Logs an error and applies the reply to the model. Returns the effects: the next commands of the batch.
    fn handle_reply(&mut self, id: CommandId, command: &Command, reply: CommandReply) -> Vec<Effect> {
        match reply {
            // The side that has executed it has logged it, with the operator's name. The model queues the other again.
            Ok(_) | Err(CommandError::QueueFull) => {}
            Err(error) => tracing::warn!(target: "operator", "{command}: {error}"),
        }
        self.is_dirty = true;
        update(&mut self.model, Msg::Replied(id, reply), Instant::now())
    }

    /// Applies a message to the model, and performs the effects that follow.
    fn handle(&mut self, message: Msg) -> io::Result<()> {
        self.is_dirty = true;
        let effects = update(&mut self.model, message, Instant::now());
        self.perform(effects)
    }

    /// Performs effects, and those that follow from them. A loop and not a recursion: where the server has stopped,
    /// each command of a batch fails at once, which sends the next one.
    fn perform(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::SendCommand(id, command) => effects.extend(self.send_command(id, command)),
                Effect::Drain => match &self.options.on_drain {
                    Some(drain) => drain(),
                    None => self.exit = Some(Exit::Drain),
                },
                Effect::Exit(exit) => self.exit = Some(exit),
                Effect::Suspend => self.suspend()?,
                Effect::Repaint => self.screen.invalidate(self.tty.size()),
                Effect::Copy(text) => self.screen.queue_sequence(&files::clipboard(&text)),
                Effect::Save(file) => self.save(&file)?,
                Effect::SaveScreenshot => {
                    // The file is for other eyes than the screen.
                    let text = self.model.labels.mask(&view::as_text(&self.model));
                    self.save(&ExportFile { name: "screen", extension: "txt", text })?;
                }
                Effect::Play(command) => {
                    if let Err(why) = self.options.source.play(command) {
                        self.handle(Msg::NotPlayed(why))?;
                    }
                    // At once, and not with the next sample.
                    self.next_sample = Instant::now();
                }
                Effect::Mouse(on) => self.screen.queue_sequence(if on { MOUSE_ON } else { MOUSE_OFF }),
            }
        }
        Ok(())
    }

    /// Writes a file, and reports its path or the error to the model.
    fn save(&mut self, file: &ExportFile) -> io::Result<()> {
        self.handle(Msg::FileWritten(files::save(file)))
    }

    /// Sends a command to the server without waiting for the reply. Returns the effects of its failure if it cannot
    /// be queued.
    fn send_command(&mut self, id: CommandId, command: Command) -> Vec<Effect> {
        let sent = match self.queue_is_full {
            true => Err(CommandError::QueueFull),
            false => self.options.source.try_send(id, command.clone()),
        };
        match sent {
            Ok(()) => {
                self.last_command_at = Instant::now();
                self.awaited_replies.push(AwaitedReply { id, command });
                Vec::new()
            }
            Err(error) => {
                self.queue_is_full |= error == CommandError::QueueFull;
                self.handle_reply(id, &command, Err(error))
            }
        }
    }

    /// Returns the earliest time at which the next frame may be painted.
    fn frame_due(&self) -> Instant {
        let gap = if self.is_input_pending { FRAME_INTERVAL_AFTER_INPUT } else { FRAME_INTERVAL };
        self.last_frame + gap
    }

    /// Draws the model, and writes what differs from the last frame to the terminal.
    fn paint(&mut self) -> io::Result<()> {
        let model = &self.model;
        self.screen.paint(&self.tty, |buf| view::draw(model, buf))?;
        self.last_frame = Instant::now();
        (self.is_dirty, self.is_input_pending) = (false, false);
        Ok(())
    }
}

/// Returns the CPU time that this thread has used. Unlike wall-clock time it does not grow under CPU contention.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Returns the time between two samples: `refresh`, or more where a sample costs much.
fn sample_interval(cost: Duration, refresh: Duration) -> Duration {
    let interval = (cost * INTERVAL_PER_SAMPLE_COST).clamp(refresh, MAX_SAMPLE_INTERVAL.max(refresh));
    Duration::from_millis((interval.as_millis() as u64).next_multiple_of(INTERVAL_STEP_MS))
}

#[cfg(test)]
mod tests;
