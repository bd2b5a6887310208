//! Command line of the rig, and its end: by the command that it runs, the end of standard input, or a signal.

use std::{
    io::{self, BufRead, Write},
    process::{Child, Command, ExitCode},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    SKIPPED, commands,
    rig::{
        FAR, NEAR, Rig, Setup, StartError,
        emulator::{QueueLimit, Shape},
    },
    units::{bits_per_second, percent, queue, time},
};

/// How often the end of the command and signals are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Connects two network namespaces, NAME-near and NAME-far, by an emulated path: a TUN device in each, and between them
/// a drop-tail queue, a rate, a delay and faults in each direction. Server and users run in NAME-near (10.77.0.1,
/// fd77::1), proxy and target in NAME-far (10.77.0.2, fd77::2; 10.77.0.3 once 10.77.0.2 is deleted).
///
/// Without COMMAND it prints "ready" and executes commands from standard input, each answered with one line, until that
/// ends:
/// `rate 20M`, `rtt 200ms`, `jitter 2ms`, `queue 50ms`, `loss 3%`, `reorder 5%`, `duplicate 1%`, `blackhole on|off`,
/// for both directions or, after the word `to-near` or `to-far`, for one; `blackout 8s`, `nat 60s|off` (drops the
/// packets of TCP connections that were idle for so long, from both sides), `congestion bbr`, `stats` (JSON, since the
/// last
/// `stats`).
///
/// It needs to be root, TUN, and `ip` of iproute2; the exit code is 77 where that is not permitted. It needs no netem.
#[derive(Parser)]
struct Args {
    /// Prefix of the names of the namespaces; namespaces of the same names are replaced
    #[arg(long, default_value = "wan")]
    name: String,
    /// Rate in bits per second and direction
    #[arg(long, value_name = "BITS", default_value = "100M", value_parser = bits_per_second)]
    rate: u64,
    /// Rate from near to far, where it differs
    #[arg(long, value_name = "BITS", value_parser = bits_per_second)]
    rate_to_far: Option<u64>,
    /// Round-trip propagation delay, half of it in each direction
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = time)]
    rtt: Duration,
    /// Longest additional delay of a packet, uniformly distributed, without reordering
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    jitter: Duration,
    /// Limit of the drop-tail queue of a direction, as a time (50ms) or a size (64KB)
    #[arg(long, value_name = "LIMIT", default_value = "50ms", value_parser = queue)]
    queue: QueueLimit,
    /// Share of packets lost at random
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    loss: f64,
    /// Share lost from far to near, where it differs
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss_to_near: Option<f64>,
    /// Share lost from near to far, where it differs
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss_to_far: Option<f64>,
    /// Share of packets that later ones overtake
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    reorder: f64,
    /// Share of packets delivered twice
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    duplicate: f64,
    /// MTU of the path; IPv6 is available from 1280
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
    /// Congestion control in both namespaces
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
    /// Seed of the random decisions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Command to run in NAME-near, with the environment variables WAN_NEAR and WAN_FAR (names of the namespaces) and
    /// WAN_NEAR_ADDRESS and WAN_FAR_ADDRESS; the exit code is that of the command
    #[arg(last = true)]
    command: Vec<String>,
}

impl Args {
    /// Returns the parameters of a direction.
    fn shape(&self, rate: Option<u64>, loss: Option<f64>) -> Shape {
        Shape {
            bits_per_second: rate.unwrap_or(self.rate),
            delay: self.rtt / 2,
            jitter: self.jitter,
            queue: self.queue,
            loss: loss.unwrap_or(self.loss),
            reorder: self.reorder,
            duplicate: self.duplicate,
            is_black_hole: false,
            blackout_until: Duration::ZERO,
        }
    }

    /// Starts the rig.
    fn start(&self) -> Result<Rig, StartError> {
        let setup = Setup {
            name: self.name.clone(),
            mtu: self.mtu,
            congestion: self.congestion.clone(),
            seed: self.seed,
        };
        let to_near = self.shape(None, self.loss_to_near);
        Rig::start(&setup, to_near, self.shape(self.rate_to_far, self.loss_to_far))
    }
}

/// Runs the program. Returns its exit code.
pub(crate) fn run() -> ExitCode {
    let args = Args::parse();
    // Registered before there is anything to remove.
    let is_terminated = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, is_terminated.clone()).unwrap();
    }
    let has_ended = || is_terminated.load(std::sync::atomic::Ordering::Relaxed);
    let mut rig = match args.start() {
        Ok(rig) => rig,
        Err(error) => {
            eprintln!("wan: {error}");
            return if matches!(error, StartError::NotPermitted(_)) {
                SKIPPED.into()
            } else {
                ExitCode::FAILURE
            };
        }
    };
    if args.command.is_empty() {
        serve(&mut rig, has_ended)
    } else {
        run_command(&rig, &args.command, has_ended)
    }
}

/// Executes commands from standard input until that or `has_ended` ends it.
fn serve(rig: &mut Rig, has_ended: impl Fn() -> bool) -> ExitCode {
    // The thread that reads blocks until the process exits.
    let (sender, lines) = sync_channel(1);
    thread::spawn(move || read_lines(&sender));
    say("ready");
    while !has_ended() {
        match next_line(&lines) {
            Some(Some(line)) => {
                say(&commands::execute(rig, &line).unwrap_or_else(|error| format!("error: {error}")))
            }
            Some(None) => return ExitCode::SUCCESS,
            None => {}
        }
    }
    ExitCode::SUCCESS
}

/// Sends the lines of standard input, and then closes the channel.
fn read_lines(lines: &SyncSender<String>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Waits for a line. Returns `None` after a while, and `Some(None)` at the end of input.
fn next_line(lines: &Receiver<String>) -> Option<Option<String>> {
    match lines.recv_timeout(POLL_INTERVAL) {
        Ok(line) => Some(Some(line)),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => None,
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Some(None),
    }
}

/// Prints one line at once.
fn say(line: &str) {
    println!("{line}");
    // Without a reader, the end of standard input or a signal ends the program.
    _ = io::stdout().flush();
}

/// Runs a command in the near namespace, until it or `has_ended` ends it. Returns its exit code.
fn run_command(rig: &Rig, command: &[String], has_ended: impl Fn() -> bool) -> ExitCode {
    let spawned = rig.near.run(|| {
        Command::new(&command[0])
            .args(&command[1..])
            .envs([("WAN_NEAR", rig.near.name.as_str()), ("WAN_FAR", rig.far.name.as_str())])
            .envs([("WAN_NEAR_ADDRESS", NEAR), ("WAN_FAR_ADDRESS", FAR)])
            .spawn()
    });
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            eprintln!("wan: {}: {error}", command[0]);
            return 127.into();
        }
    };
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            // A command that a signal has ended has no code.
            return status.code().map_or(ExitCode::FAILURE, |code| (code as u8).into());
        }
        if has_ended() && !std::mem::replace(&mut is_told, true) {
            terminate(&child);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Sends SIGTERM.
fn terminate(child: &Child) {
    // It fails only if the process has ended, which the next poll sees.
    _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
}
