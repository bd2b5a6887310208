//! Leaving the terminal while the server continues: `:detach` in the cockpit.
//!
//! A process cannot leave the job control of its shell, which waits for it or for a stop. So the job stops, as by `^Z`,
//! the shell takes the terminal and prints its prompt, and a helper continues the job in the background, as `bg` does.
//! The server stands still meanwhile, for some milliseconds. From then on it ignores SIGHUP: neither the end of the
//! shell nor that of the terminal ends it.
//!
//! A thin parent process that ends would free the shell as well, but every server with a cockpit would need it from its
//! start: another process id than the one that the shell knows, signals and an exit status to pass on, and memory.

use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    process::{Pid, Signal, getpgrp, getsid, kill_process_group},
    termios::tcgetpgrp,
};
use signal_hook::{
    consts::{SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU},
    low_level::emulate_default_handler,
};

use super::{args::ContinueJobArgs, output};
use crate::{
    runtime::{ignore_signal, is_signal_ignored},
    tui,
};

/// How long the helper waits for the shell to take the terminal, while the server stands still. A shell does so within
/// milliseconds; where none does, the server continues all the same.
const SHELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the helper looks whose the terminal is.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// After these pauses the helper continues the job again: on a busy machine it may not have stopped before the first
/// time, and would stand still for ever.
const REPEATS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(500), Duration::from_millis(2000)];

/// Gives the terminal back to the shell, if one controls this process, and returns once it runs on in the background.
/// `attach` is the command that shows the server again.
pub(super) async fn leave_terminal(attach: &str) {
    for signal in [SIGHUP, SIGTTOU, SIGTTIN] {
        ignore_signal(signal);
    }
    output::complain(format_args!(
        "detached; the server (pid {}) continues, also when this terminal is closed: `{attach}` shows it and its log, which \
         is kept nowhere else; `underpass shutdown` ends it",
        std::process::id()
    ));
    // On a thread that carries no streams.
    _ = tokio::task::spawn_blocking(return_to_shell).await;
}

/// Stops this process group, and has it continued in the background once the shell has taken the terminal.
fn return_to_shell() {
    let group = getpgrp();
    // Without a shell with job control nobody would take the terminal.
    let has_shell = getsid(None).is_ok_and(|session| session != group) && !is_signal_ignored(SIGTSTP);
    if !has_shell || !tui::is_in_foreground(std::io::stdin()) {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut helper = Command::new(program);
    // In a process group of its own, which does not stop. It knows the terminal by its standard input.
    helper.args(["continue-job", &group.as_raw_nonzero().to_string()]).process_group(0);
    helper.stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without the helper the server would stand still: then the shell goes on waiting for it.
    let Ok(mut helper) = helper.spawn() else { return };
    // The whole group, as by `^Z`: under `cargo run` the shell waits for cargo.
    _ = kill_process_group(group, Signal::TSTP);
    // The handler of the cockpit catches it in this process.
    _ = emulate_default_handler(SIGTSTP);
    _ = helper.wait();
}

/// Continues a stopped process group once its terminal belongs to another one: the helper of [`leave_terminal`].
pub(super) fn continue_job(args: &ContinueJobArgs) -> anyhow::Result<ExitCode> {
    let group = Pid::from_raw(args.group).context("no process group")?;
    let deadline = Instant::now() + SHELL_TIMEOUT;
    let is_taken = || tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground != group);
    while !is_taken() && Instant::now() < deadline {
        thread::sleep(POLL_INTERVAL);
    }
    // Fails once the group has ended.
    let mut result = kill_process_group(group, Signal::CONT);
    for pause in REPEATS {
        thread::sleep(pause);
        result = result.and_then(|()| kill_process_group(group, Signal::CONT));
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
