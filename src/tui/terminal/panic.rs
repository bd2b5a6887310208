use std::{
    panic::{self, PanicHookInfo},
    sync::Arc,
    thread,
};

use super::Tty;

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// While it lives, a panic of this thread gives the terminal back before it is printed, and a panic of any other
/// thread goes to the log instead of over the screen: the rest goes on, and so does the cockpit.
pub(crate) struct PanicHook {
    previous: Arc<Hook>,
}

impl PanicHook {
    pub(crate) fn install(tty: Arc<Tty>) -> Self {
        let previous: Arc<Hook> = Arc::from(panic::take_hook());
        let (ours, own) = (previous.clone(), thread::current().id());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() == own {
                tty.leave();
                ours(info);
            } else {
                let name = thread::current().name().unwrap_or("?").to_owned();
                tracing::error!(target: "panic", "thread {name}: {info}");
            }
        }));
        Self { previous }
    }
}

impl Drop for PanicHook {
    fn drop(&mut self) {
        // Setting a hook while unwinding would abort; the owner catches the unwinding before it drops this.
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
