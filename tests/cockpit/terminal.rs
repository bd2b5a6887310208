//! A pseudo-terminal with a program in it: its screen, as a terminal emulator shows it, and its settings in the kernel.

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

/// Timeout of every wait, long enough for a debug build on two busy cores.
pub const LONG: Duration = Duration::from_secs(30);

/// A token that cannot be guessed.
pub const TOKEN: &str = "vK8dR2xQ9mWz4LpT7cYb";

/// The time that a person needs to look at the screen before a key.
const GLANCE: Duration = Duration::from_millis(120);

/// Escape sequence with which a program requests the cursor position.
const CURSOR_POSITION_REQUEST: &[u8] = b"\x1b[6n";

/// Start of a synchronized update.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// End of a synchronized update.
const END: &[u8] = b"\x1b[?2026l";

/// A pseudo-terminal and the program in it. Dropping it kills the program.
pub struct Terminal {
    state: Arc<State>,
    /// `None` once the terminal is closed.
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Arc<Mutex<Option<Box<dyn Write + Send>>>>,
    pid: Pid,
    /// Terminal settings before the program started.
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
    /// Number of bytes of the log that the emulator has processed.
    shown: usize,
    exit: Option<(u32, Instant)>,
    /// Whether the last byte of the program has been read.
    end_of_output: bool,
    /// Whether the reader has to close its end of the terminal.
    is_closing: bool,
}

impl Terminal {
    /// Runs underpass in a terminal of this size, with additional environment variables.
    pub fn underpass(args: &[&str], (columns, rows): (u16, u16), environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_underpass"));
        command.args(args);
        Self::run_in(command, (columns, rows), environment)
    }

    /// Runs a program in a terminal of this size.
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
        // The tests must not use the key bindings, the state directory and the control sockets of the user who runs
        // them.
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        command.env("STATE_DIRECTORY", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
        command.env("UNDERPASS_CONTROL", "off");
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

    /// Returns the process ID of the program.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Presses a key as a person does, who has looked at the screen: the cockpit ignores what comes sooner. With more
    /// than one key, they arrive at once.
    pub fn press(&self, keys: &str) {
        thread::sleep(GLANCE);
        self.write(keys);
    }

    /// Opens a prompt with a key, types text into it, and accepts it.
    pub fn fill(&self, opens: &str, text: &str) {
        let last_row = |screen: &vt100::Screen| {
            screen.contents().lines().last().map(str::trim_end).unwrap_or_default().to_owned()
        };
        self.press(opens);
        self.until("the prompt", |screen| last_row(screen).starts_with(&format!(" {opens}")).then_some(()));
        self.press(text);
        self.until("the text", |screen| last_row(screen).contains(text).then_some(()));
        self.press("\r");
    }

    /// Quits, and answers the question whether to end open streams.
    pub fn quit(&self) {
        self.press("q");
        let asks = self.wait("the question, or the end", |seen| {
            let text = seen.parser.as_ref()?.screen().contents();
            if seen.exit.is_some() { Some(false) } else { text.contains("Quit?").then_some(true) }
        });
        if asks {
            self.press("\x1b[Z");
            self.until_shows("[ Quit now ]");
            self.press("\r");
        }
    }

    /// Writes bytes to the terminal at once.
    pub fn write(&self, keys: &str) {
        let mut writer = self.writer.lock().unwrap();
        writer.as_mut().expect("the terminal is there").write_all(keys.as_bytes()).unwrap();
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until `look` returns a value for the screen, and returns it.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&vt100::Screen) -> Option<T>) -> T {
        self.wait(what, |seen| look(seen.parser.as_ref()?.screen()))
    }

    /// Presses a key, and once more every five seconds, until `look` returns a value for the screen, and returns it: a
    /// key is refused just after the selection has moved by itself.
    pub fn press_until<T>(
        &self,
        keys: &str,
        what: &str,
        mut look: impl FnMut(&vt100::Screen) -> Option<T>,
    ) -> T {
        let mut pressed_at = None::<Instant>;
        thread::sleep(GLANCE);
        self.until(what, |screen| {
            let found = look(screen);
            if found.is_none() && pressed_at.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
                self.write(keys);
                pressed_at = Some(Instant::now());
            }
            found
        })
    }

    /// Waits until the screen shows `text`.
    pub fn until_shows(&self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// Returns the text of the screen.
    pub fn text(&self) -> String {
        self.state.lock().parser.as_ref().map(|parser| parser.screen().contents()).unwrap_or_default()
    }

    /// Returns every byte that the program has written.
    pub fn log(&self) -> Vec<u8> {
        self.state.lock().log.clone()
    }

    /// Waits until the program exits and its output is read. Returns its exit status and the time of the exit.
    pub fn exit(&self) -> (u32, Instant) {
        self.wait("the program ends", |seen| seen.exit.filter(|_| seen.end_of_output || seen.is_closing))
    }

    /// Returns whether the program is running.
    pub fn runs(&self) -> bool {
        self.state.lock().exit.is_none()
    }

    /// Resizes the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        // The emulator first: it must not clip what the program paints for the new size.
        self.state.lock().parser.as_mut().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.master.as_ref().unwrap().resize(size).unwrap();
    }

    /// Returns the current terminal settings.
    pub fn settings(&self) -> String {
        format!("{:?}", self.master.as_ref().unwrap().get_termios().unwrap())
    }

    /// Waits until the terminal is restored: settings as before, main screen, visible cursor.
    pub fn until_sane(&self) {
        self.until("the main screen, with its cursor", |screen| {
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        let deadline = Instant::now() + LONG;
        // A change of the settings produces no output that could be waited for.
        while self.settings() != self.before {
            assert!(Instant::now() < deadline, "{} is not {}", self.settings(), self.before);
            thread::yield_now();
        }
    }

    /// Closes the terminal, like a closed window or a lost SSH connection. Returns the time at which it was closed.
    pub fn close(&mut self) -> Instant {
        self.state.lock().is_closing = true;
        // The writer would send an end of file when it is dropped after the terminal is closed.
        *self.writer.lock().unwrap() = None;
        self.master = None;
        // The reader holds the last descriptor and closes it after the next frame of the program.
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
    /// Returns how much of the log the emulator may process: a terminal shows no part of an unfinished synchronized
    /// update.
    fn complete_length(&self) -> usize {
        // The start sequence may be split over two reads.
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
        // Ignores poisoning by a failed test, whose own panic message matters more.
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
        // Linux reports an I/O error after the last program has closed the terminal.
        let n = from.read(&mut buffer).unwrap_or(0);
        let mut seen = to.lock();
        if n == 0 || seen.is_closing {
            drop(from);
            seen.show(usize::MAX);
            seen.end_of_output = true;
            to.changed.notify_all();
            return;
        }
        seen.log.extend_from_slice(&buffer[..n]);
        let asked =
            buffer[..n].windows(CURSOR_POSITION_REQUEST.len()).any(|bytes| bytes == CURSOR_POSITION_REQUEST);
        let complete = seen.complete_length();
        seen.show(complete);
        to.changed.notify_all();
        drop(seen);
        if asked && let Some(writer) = answers.lock().unwrap().as_mut() {
            _ = writer.write_all(b"\x1b[1;1R");
        }
    }
}
