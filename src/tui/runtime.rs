//! The loop: waits for whatever comes first, turns it into messages, does what the model wants done, and paints.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    Exit, Options, files,
    model::Model,
    msg::{CommandId, Effect, ExportFile, Msg},
    source::{PollRequest, SourceUpdate},
    terminal::{FrameWriter, TerminalInput, TerminalSignals, Tty, WaitOutcome},
    theme::Theme,
    update::{sample, update},
    view,
};
use crate::control::{Command, CommandError, CommandReply};

/// The slowest it gets.
const SAMPLE_SLOWEST: Duration = Duration::from_secs(1);
/// Where nothing is open and nothing happens, to wake more often is all that it costs.
const SAMPLE_IDLE: Duration = Duration::from_millis(300);
/// Taking samples may take this share of a core: with a hundred thousand streams they come more rarely, rather than
/// at the cost of carrying bytes. What one costs is the mean of about as many: once a second the rows change places, and
/// that one alone must not hold the next one back.
const SAMPLE_SHARE: u32 = 50;
const MEAN_OF: u32 = 8;
/// The time between two of them moves in steps of so many milliseconds: it is on the screen, and shall not flicker.
const STEP: u64 = 20;
/// At most so many frames a second while only figures move: 30.
const FRAME: Duration = Duration::from_millis(33);
/// An answer to a key is not made to wait for that, but a key held down must not paint without end either.
const FRAME_AFTER_KEY: Duration = Duration::from_millis(8);

/// How soon answers to orders are looked for: a mass act sends its next ones when they come. Given up after a while, for
/// a server that does not answer must not keep us awake.
const ANSWER: Duration = Duration::from_millis(2);
const ANSWER_LATE: Duration = Duration::from_secs(1);

/// Presses and the wheel, reported in a form without limits.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// A command that was sent, whose reply has not arrived.
#[derive(Debug)]
struct AwaitedReply {
    id: CommandId,
    command: Command,
}

/// The cockpit at work.
pub(crate) struct Runtime {
    options: Options,
    tty: Arc<Tty>,
    signals: TerminalSignals,
    input: TerminalInput,
    screen: FrameWriter,
    model: Model,
    pending: Vec<AwaitedReply>,
    /// When the last order was sent.
    ordered: Instant,
    /// The control room had no room: what follows must not go before what it did not take.
    busy: bool,
    next_sample: Instant,
    /// What a sample takes of a core, on average.
    cost: Duration,
    last_frame: Instant,
    dirty: bool,
    urgent: bool,
    exit: Option<Exit>,
}

impl Runtime {
    pub(crate) fn new(options: Options, tty: Arc<Tty>) -> io::Result<Self> {
        let now = Instant::now();
        let size = tty.size();
        let mut model = Model::new(options.labels.clone(), Theme::detect(), size, now);
        options.settings.apply(&mut model, options.source.capabilities());
        let mut screen = FrameWriter::new(size);
        if model.display.mouse {
            screen.queue_sequence(MOUSE_ON);
        }
        Ok(Self {
            signals: TerminalSignals::listen()?,
            input: TerminalInput::default(),
            screen,
            model,
            pending: Vec::new(),
            ordered: now,
            busy: false,
            next_sample: now,
            cost: Duration::ZERO,
            // Long enough ago for the first frame to be due at once.
            last_frame: now.checked_sub(FRAME).unwrap_or(now),
            dirty: true,
            urgent: true,
            exit: None,
            options,
            tty,
        })
    }

    /// Goes on until something ends it.
    pub(crate) fn run(mut self) -> io::Result<Exit> {
        let mut keys = Vec::new();
        loop {
            if self.options.stop.load(SeqCst) {
                return Ok(Exit::Stopped);
            }
            if self.look_at_signals()? {
                return Ok(Exit::TerminalGone);
            }
            let now = Instant::now();
            if now >= self.next_sample {
                self.sample(now)?;
            }
            self.collect_answers()?;
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            if self.dirty && Instant::now() >= self.frame_due() && self.paint().is_err() {
                // Writing fails only when nobody is at the other end.
                return Ok(Exit::TerminalGone);
            }
            let mut deadline =
                if self.dirty { self.next_sample.min(self.frame_due()) } else { self.next_sample };
            if !self.pending.is_empty() && self.ordered.elapsed() < ANSWER_LATE {
                deadline = deadline.min(Instant::now() + ANSWER);
            }
            match self.input.wait(&self.tty, &mut self.signals, deadline, &mut keys)? {
                WaitOutcome::Ready => {}
                WaitOutcome::TerminalGone => return Ok(Exit::TerminalGone),
            }
            for mouse in self.input.take_mouse_events() {
                self.urgent = true;
                self.take(Msg::Mouse(mouse))?;
            }
            for key in keys.drain(..) {
                self.urgent = true;
                self.take(Msg::Key(key))?;
                if let Some(exit) = self.exit {
                    return Ok(exit);
                }
            }
        }
    }

    /// Says whether the terminal hung up.
    fn look_at_signals(&mut self) -> io::Result<bool> {
        if self.signals.take_hangup() {
            return Ok(true);
        }
        if self.signals.take_suspend() {
            self.suspend()?;
        }
        if self.signals.take_continue() {
            // Stopped by force, and the shell may have reset the terminal meanwhile.
            self.come_back()?;
        }
        if self.signals.take_resize() {
            self.urgent = true;
            self.take(Msg::Resized(self.tty.size()))?;
        }
        if self.signals.take_terminate() {
            self.take(Msg::Interrupted)?;
        }
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        if !TerminalSignals::has_job_control() {
            return self.take(Msg::NoShell);
        }
        self.tty.leave();
        self.signals.suspend_process_group();
        self.come_back()
    }

    fn come_back(&mut self) -> io::Result<()> {
        self.tty.enter()?;
        if self.model.display.mouse {
            self.screen.queue_sequence(MOUSE_ON);
        }
        self.urgent = true;
        self.take(Msg::Resized(self.tty.size()))
    }

    /// Takes what has happened since the last time, and where everything stands.
    fn sample(&mut self, now: Instant) -> io::Result<()> {
        let began = core_time();
        let selected: Vec<u64> = self.model.selected_stream_number().into_iter().collect();
        // While the display is frozen the log is too: the source keeps its newest records.
        let with_log = self.model.frozen.is_none();
        if with_log {
            // Not by tui-logger's own thread, which would wake a hundred times a second.
            tui_logger::move_events();
        }
        let (model, dirty) = (&mut self.model, &mut self.dirty);
        let (mut idle, mut effects) = (true, Vec::new());
        self.options.source.poll(PollRequest::Sample { with_log, selected: &selected }, &mut |item| {
            let message = match item {
                SourceUpdate::Event(event) => Msg::Event(event),
                SourceUpdate::MissedEvents(missed) => Msg::Missed(missed),
                SourceUpdate::Log(record) => return model.log_screen.push(record),
                SourceUpdate::Reply(id, reply) => Msg::Replied(id, reply),
                SourceUpdate::Snapshot(snapshot) => {
                    let live = &model.live;
                    let busy = !live.streams.order().is_empty() || live.totals != snapshot.totals;
                    idle &= live.streams.live() == 0 && snapshot.totals == live.totals;
                    let second = live.uptime.as_secs() != snapshot.uptime.as_secs();
                    // Nothing moves on an idle screen but the clock.
                    *dirty |= busy || second || !model.server_status.has_sample || model.notice.is_some();
                    return effects.extend(sample(model, snapshot, now));
                }
            };
            (idle, *dirty) = (false, true);
            effects.extend(update(model, message, now));
        });
        let refresh = self.options.settings.refresh;
        let refresh = if idle { refresh.max(SAMPLE_IDLE) } else { refresh };
        let took = core_time().saturating_sub(began);
        self.cost = (self.cost * (MEAN_OF - 1) + took) / MEAN_OF;
        let interval = (self.cost * SAMPLE_SHARE).clamp(refresh, SAMPLE_SLOWEST.max(refresh));
        self.model.sample_interval =
            Duration::from_millis((interval.as_millis() as u64).next_multiple_of(STEP));
        // From when it was due, so that what each one takes does not add up; one that comes late is not made up for.
        self.next_sample =
            (self.next_sample + self.model.sample_interval).max(now + self.model.sample_interval / 2);
        self.busy = false;
        self.perform(effects)
    }

    fn collect_answers(&mut self) -> io::Result<()> {
        let mut replies = Vec::new();
        self.options.source.poll(PollRequest::Replies, &mut |item| {
            if let SourceUpdate::Reply(id, reply) = item {
                replies.push((id, reply));
            }
        });
        for (id, reply) in replies {
            self.busy = false;
            let Some(at) = self.pending.iter().position(|pending| pending.id == id) else { continue };
            let command = self.pending.remove(at).command;
            let effects = self.answered(id, &command, reply);
            self.perform(effects)?;
        }
        Ok(())
    }

    fn answered(&mut self, id: CommandId, command: &Command, reply: CommandReply) -> Vec<Effect> {
        match reply {
            Ok(done) => {
                tracing::info!(target: "operator", "{command}: done, streams: {}", done.affected_streams)
            }
            // It is sent again.
            Err(CommandError::QueueFull) => {}
            Err(why) => tracing::warn!(target: "operator", "{command}: {why}"),
        }
        self.dirty = true;
        update(&mut self.model, Msg::Replied(id, reply), Instant::now())
    }

    fn take(&mut self, message: Msg) -> io::Result<()> {
        self.dirty = true;
        let effects = update(&mut self.model, message, Instant::now());
        self.perform(effects)
    }

    /// Does what the model wants done, and what it wants done about what came of that. A loop: where the server has
    /// stopped, each order of a mass act fails at once and brings the next one.
    fn perform(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::SendCommand(id, command) => effects.extend(self.order(id, command)),
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
                    let text = view::as_text(&self.model);
                    self.save(&ExportFile { name: "screen", extension: "txt", text })?;
                }
                Effect::Mouse(on) => self.screen.queue_sequence(if on { MOUSE_ON } else { MOUSE_OFF }),
            }
        }
        Ok(())
    }

    /// Writes a file and reports the result to the model.
    fn save(&mut self, file: &ExportFile) -> io::Result<()> {
        self.take(Msg::FileWritten(files::save(file)))
    }

    fn order(&mut self, id: CommandId, command: Command) -> Vec<Effect> {
        let sent = match self.busy {
            true => Err(CommandError::QueueFull),
            false => self.options.source.try_send(id, command.clone()),
        };
        match sent {
            Ok(()) => {
                self.ordered = Instant::now();
                self.pending.push(AwaitedReply { id, command });
                Vec::new()
            }
            Err(why) => {
                self.busy |= why == CommandError::QueueFull;
                self.answered(id, &command, Err(why))
            }
        }
    }

    fn frame_due(&self) -> Instant {
        let gap = if self.urgent { FRAME_AFTER_KEY } else { FRAME };
        self.last_frame + gap
    }

    fn paint(&mut self) -> io::Result<()> {
        let model = &self.model;
        self.screen.paint(&self.tty, |buf| view::draw(model, buf))?;
        self.last_frame = Instant::now();
        (self.dirty, self.urgent) = (false, false);
        Ok(())
    }
}

/// For how long this thread has had a core: on a busy machine a sample takes long without costing more.
fn core_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}
