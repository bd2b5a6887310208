//! What the cockpit costs where it is used, in a terminal:
//!
//! ```sh
//! cargo build --release --example cockpit && cargo bench --bench cockpit [-- keys cpu idle speed]
//! ```
//!
//! `keys`: latency from a key press to the screen, with 10,000 synthetic streams. `cpu` and `idle`: CPU time of the
//! cockpit's thread (including sampling), and the size of its frames. `speed`: throughput of iperf3 through a server
//! with the cockpit and through one without, in many short pairs, because one noisy second spoils one pair and not the
//! median; and the CPU time of each server per gigabyte, which noise affects less. Without a name, all of them run. A
//! part that cannot be measured on this machine is skipped with the reason.

// A benchmark whose setup fails may panic; the terminal module is shared with the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, missing_debug_implementations, dead_code)]

#[path = "../tests/cockpit/terminal.rs"]
mod terminal;

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use terminal::Terminal;

/// The token of server and proxy, which refuse one that can be guessed.
const TOKEN: &str = "vK8dR2xQ9mWz4LpT7cYb";

const SIZE: (u16, u16) = (120, 36);
const STREAMS: u64 = 10_000;
/// The number of key presses that are timed.
const KEYS: usize = 500;
/// How long the CPU time of the thread is measured.
const WATCHED: Duration = Duration::from_secs(20);
/// The number of pairs of runs, and the length of a run in seconds.
const PAIRS: usize = 21;
const SECONDS: &str = "1";

/// The reason why a part was not measured.
type Skipped = String;

/// A part of the measurement.
type Part = fn() -> Result<(), Skipped>;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
    if let Err(why) = native_pty_system().openpty(size) {
        return println!("skipped: there is no pseudo-terminal here: {why}");
    }
    let parts: [(&str, Part); 4] =
        [("keys", keys), ("cpu", || watch(STREAMS)), ("idle", || watch(0)), ("speed", speed)];
    for (name, measure) in parts {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        if let Err(why) = measure() {
            println!("{name:<6} skipped: {why}");
        }
    }
}

/// Starts the example `cockpit`: a real telemetry hub and command queue with synthetic streams.
fn synthetic(streams: u64) -> Result<Terminal, Skipped> {
    let program = beside("examples/cockpit");
    if !program.exists() {
        return Err(format!("no {}: cargo build --release --example cockpit", program.display()));
    }
    let mut command = CommandBuilder::new(program);
    command.arg(streams.to_string());
    command.arg(if streams == 0 { "0" } else { "4" });
    let terminal = Terminal::run(command, SIZE);
    terminal.until("the streams", |screen| (open(&screen.contents())? >= streams * 99 / 100).then_some(()));
    // Wait until the trends of the streams have filled.
    thread::sleep(Duration::from_secs(3));
    Ok(terminal)
}

/// Returns the path of another program that cargo built in the same profile.
fn beside(path: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().and_then(|deps| deps.parent()).unwrap().join(path)
}

/// Returns the number of open streams in the header of a screen.
fn open(screen: &str) -> Option<u64> {
    let words: Vec<&str> = screen.lines().next()?.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "open")?;
    words.get(at.checked_sub(1)?)?.replace(',', "").parse().ok()
}

/// Returns the key of the selected stream on a screen.
fn selected(screen: &vt100::Screen) -> Option<String> {
    screen.rows(0, 14).find_map(|row| row.strip_prefix('▌')?.split_whitespace().next().map(str::to_owned))
}

fn keys() -> Result<(), Skipped> {
    let terminal = synthetic(STREAMS)?;
    // Four pages down: at the ends of the table a key might change nothing.
    terminal.press("\x06\x06\x06\x06");
    let mut times = Vec::new();
    for number in 0..KEYS {
        // Out of step with the frames.
        thread::sleep(Duration::from_millis(7 + (number as u64 * 37) % 61));
        let before = terminal.until("a selection", selected);
        let start = Instant::now();
        terminal.press(if number % 40 < 20 { "j" } else { "k" });
        terminal.until("another selection", |screen| (selected(screen)? != before).then_some(()));
        times.push(start.elapsed());
    }
    println!(
        "keys   {STREAMS} streams, {KEYS} keys: to the screen p50 {:.1?}, p99 {:.1?}, slowest {:.1?} (bars: 5 ms, 16 ms)",
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        percentile(&mut times, 100),
    );
    Ok(())
}

fn watch(streams: u64) -> Result<(), Skipped> {
    let terminal = synthetic(streams)?;
    // The cockpit runs on the first thread, the feeder on another.
    let task = format!("/proc/{0}/task/{0}", terminal.pid());
    let read =
        |file: &str| fs::read_to_string(format!("{task}/{file}")).map_err(|why| format!("{task}: {why}"));
    let ran = || -> Result<u64, Skipped> {
        read("schedstat")?
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
            .ok_or("no schedstat".into())
    };
    let writes = || -> Option<u64> {
        read("io").ok()?.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok())
    };
    let (start, from) = (Instant::now(), terminal.log().len());
    let (ran_before, writes_before) = (ran()?, writes());
    thread::sleep(WATCHED);
    let (took, ran, written) = (start.elapsed().as_secs_f64(), ran()? - ran_before, writes());
    let log = String::from_utf8_lossy(&terminal.log()).into_owned();
    let text = String::from_utf8_lossy(&terminal.log()[from..]).into_owned();
    let mut sizes = Vec::new();
    let mut outside = 0;
    for frame in text.split("\x1b[?2026h").skip(1) {
        let (inside, after) = frame.split_once("\x1b[?2026l").unwrap_or((frame, ""));
        sizes.push(inside.len() + 16);
        outside += after.len();
    }
    let name = if streams == 0 { "idle" } else { "cpu" };
    let bar = if streams == 0 { 0.3 } else { 2.0 };
    println!(
        "{name:<6} {streams} streams, {:.1} frames a second: {:.2} % of a core (bar: {bar} %)",
        sizes.len() as f64 / took,
        ran as f64 / 1e9 / took * 100.0,
    );
    if !sizes.is_empty() {
        let per_frame = writes_before.zip(written).map_or("unknown".to_owned(), |(before, after)| {
            format!("{:.2}", (after - before) as f64 / sizes.len() as f64)
        });
        println!(
            "{:6} bytes a frame p50 {}, p99 {}, largest {} (bar: 4,096); writes a frame {per_frame}; bytes outside of \
             frames {outside}; cleared {} (at the start)",
            "",
            percentile(&mut sizes, 50),
            percentile(&mut sizes, 99),
            percentile(&mut sizes, 100),
            log.matches("\x1b[2J").count(),
        );
    }
    Ok(())
}

/// A process that is ended with this.
struct Process(Child);

impl Process {
    fn start(program: &str, args: &[&str]) -> Result<Self, Skipped> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|why| format!("{program}: {why}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn free_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// Waits until a process listens on a port, without connecting to it: iperf3 takes the first connection for its client.
fn until_listens(port: &str) -> Result<(), Skipped> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let wanted = format!(":{:04X} ", port.parse::<u16>().unwrap());
    while Instant::now() < deadline {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let listens = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().is_some_and(|local| format!("{local} ").ends_with(&wanted));
            local && fields.nth(1) == Some("0A")
        };
        if tables.iter().flat_map(|table| table.lines()).any(listens) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("no process listens on port {port}"))
}

/// A server, with or without the cockpit, and a proxy.
struct Tunnel {
    public: String,
    target: String,
    server: Terminal,
    _proxy: Process,
}

impl Tunnel {
    fn start(cockpit: bool) -> Result<Self, Skipped> {
        let program = env!("CARGO_BIN_EXE_underpass");
        let [listen, public, target] = [(); 3].map(|()| free_port());
        let server = format!("127.0.0.1:{listen}");
        let args = ["server", "--listen", &server, "--bind", "127.0.0.1", "--token", TOKEN];
        // Both servers run in a terminal: Linux schedules by session, and a session of its own cost the headless server
        // as much additional CPU time as the cockpit seemed to cost.
        let headless: &[&str] = if cockpit { &[] } else { &["--no-tui"] };
        let running = Terminal::underpass(&[&args[..], headless].concat(), SIZE, &[]);
        until_listens(&listen)?;
        let to = format!("127.0.0.1:{target}");
        let args = [
            "proxy",
            "--server",
            &server,
            "--port",
            &public,
            "--to",
            &to,
            "--token",
            TOKEN,
            "--channels",
            "2",
        ];
        let proxy = Process::start(program, &args)?;
        until_listens(&public)?;
        Ok(Self { public, target, server: running, _proxy: proxy })
    }

    /// Runs iperf3 through the tunnel with `at_once` parallel streams.
    fn download(&self, at_once: &str) -> Result<Run, Skipped> {
        let _target = Process::start("iperf3", &["-s", "-1", "-B", "127.0.0.1", "-p", &self.target])?;
        until_listens(&self.target)?;
        let args = ["-c", "127.0.0.1", "-p", &self.public, "-R", "-P", at_once, "-t", SECONDS, "-J"];
        let before = self.cpu_time()?;
        let done = Command::new("iperf3").args(args).output().map_err(|why| why.to_string())?;
        let ran = self.cpu_time()? - before;
        let text = String::from_utf8_lossy(&done.stdout);
        let received = text.split("\"sum_received\"").nth(1).unwrap_or_default();
        let figure = |name: &str| -> Option<f64> {
            let rest = received.split(&format!("\"{name}\":")).nth(1)?;
            rest.split([',', '\n', '}']).next()?.trim().parse().ok()
        };
        match figure("bits_per_second").zip(figure("bytes")) {
            Some((bits, bytes)) => Ok(Run { bits, cost: ran as f64 / 1e6 / (bytes / 1e9) }),
            None => {
                let error = text.lines().find(|line| line.contains("\"error\"")).unwrap_or("no figure");
                Err(format!("iperf3 failed: {}", error.trim()))
            }
        }
    }

    /// Returns the CPU time of the server in nanoseconds, all threads together.
    fn cpu_time(&self) -> Result<u64, Skipped> {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.server.pid())).map_err(|why| why.to_string())?;
        let ran = |task: fs::DirEntry| -> Option<u64> {
            fs::read_to_string(task.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
        };
        Ok(tasks.flatten().filter_map(ran).sum())
    }
}

/// The result of one iperf3 run.
#[derive(Clone, Copy)]
struct Run {
    /// Received throughput in bits per second.
    bits: f64,
    /// CPU time of the server in milliseconds per gigabyte.
    cost: f64,
}

fn speed() -> Result<(), Skipped> {
    Command::new("iperf3").arg("-v").output().map_err(|_| "iperf3 is not installed")?;
    let (with, without) = (Tunnel::start(true)?, Tunnel::start(false)?);
    for at_once in ["1", "8"] {
        // The first run of each server warms up and is not counted.
        with.download(at_once)?;
        without.download(at_once)?;
        let mut pairs = Vec::new();
        for number in 0..PAIRS {
            // The order alternates, so that neither server always runs on the cooler machine.
            if number % 2 == 0 {
                let cockpit = with.download(at_once)?;
                pairs.push((cockpit, without.download(at_once)?));
            } else {
                let headless = without.download(at_once)?;
                pairs.push((with.download(at_once)?, headless));
            }
        }
        let quartiles = |of: &dyn Fn(&(Run, Run)) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            [PAIRS / 4, PAIRS / 2, PAIRS * 3 / 4].map(|at| values[at])
        };
        let [low, median, high] = quartiles(&|(with, without)| with.bits / without.bits);
        println!(
            "speed  {at_once} at once, {PAIRS} pairs of {SECONDS} s: {:.2} Gbit/s with the cockpit, {:.2} without; ratio {median:.3}, \
             half of the pairs from {low:.3} to {high:.3} (bar: 0.97)",
            quartiles(&|(with, _)| with.bits / 1e9)[1],
            quartiles(&|(_, without)| without.bits / 1e9)[1],
        );
        let [low, median, high] = quartiles(&|(with, without)| with.cost / without.cost);
        println!(
            "{:6} server, ms of a core for a GB: {:.0} with the cockpit, {:.0} without; ratio {median:.3}, half from {low:.3} to \
             {high:.3}",
            "",
            quartiles(&|(with, _)| with.cost)[1],
            quartiles(&|(_, without)| without.cost)[1],
        );
    }
    Ok(())
}

/// Returns the value below which `percent` of the values are.
fn percentile<T: Copy + Ord>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
