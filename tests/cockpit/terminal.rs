//! A terminal with a program in it: what a person at a keyboard sees, and what the kernel knows about it.

use std::{
    io::{Read, Write},
    num::NonZeroU16,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

/// What nothing takes, a debug build on two busy cores included.
pub const LONG: Duration = Duration::from_secs(30);

/// What the terminal asks back when a program wants to know where the cursor is.
const WHERE_IS_THE_CURSOR: &[u8] = b"\x1b[6n";

/// Around a synchronized update.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

/// A pseudo-terminal and the program in it. Dropping it kills the program.
pub struct Terminal {
    state: Arc<State>,
    /// Nothing once the terminal has vanished.
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Arc<Mutex<Option<Box<dyn Write + Send>>>>,
    pid: Pid,
    /// How the terminal was set before the program ran.
    pub before: String,
}

#[derive(Default)]
struct State {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    parser: Option<vt100::Parser>,
    /// Every byte that the program wrote.
    log: Vec<u8>,
    /// How many of them the screen shows.
    shown: usize,
    exit: Option<(u32, Instant)>,
    /// The program's last byte has been read.
    end_of_output: bool,
    /// The reader is to let go of the terminal.
    vanish: bool,
}

impl Terminal {
    /// Runs underpass in a terminal of this size.
    pub fn underpass(args: &[&str], (columns, rows): (u16, u16), environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_underpass"));
        command.args(args);
        Self::run_in(command, (columns, rows), environment)
    }

    /// Runs any program.
    pub fn run(command: CommandBuilder, size: (u16, u16)) -> Self {
        Self::run_in(command, size, &[])
    }

    fn run_in(
        mut command: CommandBuilder,
        (columns, rows): (u16, u16),
        environment: &[(&str, &str)],
    ) -> Self {
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env_remove("NO_COLOR");
        command.env_remove("UNDERPASS_TOKEN");
        // Whoever runs the tests may like other keys.
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        for (name, value) in environment {
            command.env(name, value);
        }
        command.cwd(Path::new(env!("CARGO_MANIFEST_DIR")));
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let before = format!("{:?}", pair.master.get_termios().unwrap());
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let pid = Pid::from_raw(i32::try_from(child.process_id().unwrap()).unwrap()).unwrap();
        let state = Arc::new(State::default());
        state.lock().parser = Some(vt100::Parser::new(cells(rows), cells(columns), 0));
        let writer = Arc::new(Mutex::new(Some(pair.master.take_writer().unwrap())));
        let reader = pair.master.try_clone_reader().unwrap();
        let (to, answers) = (state.clone(), writer.clone());
        thread::spawn(move || read(reader, &to, &answers));
        let to = state.clone();
        thread::spawn(move || {
            let status = child.wait().unwrap();
            to.lock().exit = Some((status.exit_code(), Instant::now()));
            to.changed.notify_all();
        });
        Self { state, master: Some(pair.master), writer, pid, before }
    }

    /// The program's number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Types.
    pub fn press(&self, keys: &str) {
        let mut writer = self.writer.lock().unwrap();
        writer.as_mut().expect("the terminal is there").write_all(keys.as_bytes()).unwrap();
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until the screen is as wanted, and gives what `look` made of it.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&vt100::Screen) -> Option<T>) -> T {
        self.wait(what, |seen| look(seen.parser.as_ref()?.screen()))
    }

    /// Waits until the screen shows `text`.
    pub fn until_shows(&self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// What the screen shows.
    pub fn text(&self) -> String {
        self.state.lock().parser.as_ref().map(|parser| parser.screen().contents()).unwrap_or_default()
    }

    /// Every byte the program has written.
    pub fn log(&self) -> Vec<u8> {
        self.state.lock().log.clone()
    }

    /// Waits for the program's end and the last of its output: its status, and when it ended.
    pub fn exit(&self) -> (u32, Instant) {
        self.wait("the program ends", |seen| seen.exit.filter(|_| seen.end_of_output || seen.vanish))
    }

    /// Whether the program still runs.
    pub fn runs(&self) -> bool {
        self.state.lock().exit.is_none()
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        // The screen first: what the program paints for the new size must not be cut by the old one.
        self.state.lock().parser.as_mut().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.master.as_ref().unwrap().resize(size).unwrap();
    }

    /// How the terminal is set now.
    pub fn settings(&self) -> String {
        format!("{:?}", self.master.as_ref().unwrap().get_termios().unwrap())
    }

    /// Waits until the terminal is as a shell expects it: settings as before, main screen, cursor shown.
    pub fn until_sane(&self) {
        self.until("the main screen, with its cursor", |screen| {
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        let deadline = Instant::now() + LONG;
        // The settings change without a byte that would wake anybody.
        while self.settings() != self.before {
            assert!(Instant::now() < deadline, "{} is not {}", self.settings(), self.before);
            thread::yield_now();
        }
    }

    /// Takes the terminal away, as when a window is closed or a connection cut; says when it was gone.
    pub fn vanish(&mut self) -> Instant {
        self.state.lock().vanish = true;
        // The writer's end would say goodbye with an end of file.
        *self.writer.lock().unwrap() = None;
        self.master = None;
        // The reader holds the last end; a frame of the program wakes it.
        self.wait("the terminal is gone", |seen| seen.end_of_output.then_some(()));
        Instant::now()
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        let mut seen = self.state.lock();
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let screen = seen.parser.as_ref().map(|p| p.screen().contents()).unwrap_or_default();
                panic!("not within {LONG:?}: {what}\nexit {:?}, the screen shows:\n{screen}", seen.exit);
            }
            seen = self.state.changed.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Seen {
    /// How far the log is to be shown: a terminal shows no part of a synchronized update, however it comes.
    fn whole(&self) -> usize {
        // Where an update begins may be split, too.
        let from = self.shown.saturating_sub(BEGIN.len() - 1);
        let fresh = &self.log[from..];
        let last = |mark: &[u8]| fresh.windows(mark.len()).rposition(|bytes| bytes == mark);
        match (last(BEGIN), last(END)) {
            (Some(begin), end) if end.is_none_or(|end| end < begin) => self.shown.max(from + begin),
            _ => self.log.len(),
        }
    }

    fn show(&mut self, until: usize) {
        let until = until.min(self.log.len());
        if let Some(parser) = &mut self.parser {
            parser.process(&self.log[self.shown..until]);
        }
        self.shown = until;
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A test that failed holds it poisoned; the next line of its panic is worth more than that.
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.runs() {
            _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

fn cells(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn read(mut from: Box<dyn Read + Send>, to: &State, answers: &Mutex<Option<Box<dyn Write + Send>>>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // An error is how Linux says that the last program has let go.
        let n = from.read(&mut buffer).unwrap_or(0);
        let mut seen = to.lock();
        if n == 0 || seen.vanish {
            drop(from);
            seen.show(usize::MAX);
            seen.end_of_output = true;
            to.changed.notify_all();
            return;
        }
        seen.log.extend_from_slice(&buffer[..n]);
        let asked = buffer[..n].windows(WHERE_IS_THE_CURSOR.len()).any(|bytes| bytes == WHERE_IS_THE_CURSOR);
        let whole = seen.whole();
        seen.show(whole);
        to.changed.notify_all();
        drop(seen);
        if asked && let Some(writer) = answers.lock().unwrap().as_mut() {
            _ = writer.write_all(b"\x1b[1;1R");
        }
    }
}
