//! The panic hook that restores the terminal before a panic message is printed.

use std::{
    panic::{self, PanicHookInfo},
    sync::Arc,
    thread,
};

use super::Tty;

/// A panic hook: what is called with the information about a panic.
type PanicHandler = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// Replaces the process's panic hook for as long as this value lives.
///
/// A panic of the thread that installed it (the cockpit's) restores the terminal and then calls the previous hook. A
/// panic of any other thread is logged instead of printed over the screen: the other tasks and the cockpit continue.
pub(crate) struct PanicHook {
    /// The hook that was installed before; reinstalled on drop.
    previous: Arc<PanicHandler>,
}

impl PanicHook {
    /// Installs the hook. `tty` is the terminal that a panic of the calling thread restores.
    pub(crate) fn install(tty: Arc<Tty>) -> Self {
        let previous: Arc<PanicHandler> = Arc::from(panic::take_hook());
        let (chained, cockpit_thread) = (previous.clone(), thread::current().id());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() == cockpit_thread {
                tty.leave();
                chained(info);
            } else {
                let name = thread::current().name().unwrap_or("?").to_owned();
                tracing::error!(target: "panic", "thread {name}: {info}");
            }
        }));
        Self { previous }
    }
}

impl Drop for PanicHook {
    /// Reinstalls the previous hook, except while this thread unwinds.
    fn drop(&mut self) {
        // `set_hook` aborts the process while its thread unwinds; `tui::run` catches the panic before it drops this.
        if !thread::panicking() {
            let previous = self.previous.clone();
            panic::set_hook(Box::new(move |info| previous(info)));
        }
    }
}

impl std::fmt::Debug for PanicHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PanicHook")
    }
}
