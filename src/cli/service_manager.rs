//! The service manager that has started this process: systemd, or another one that speaks its protocol (sd_notify(3)).
//!
//! Notifications do nothing where the environment variable `NOTIFY_SOCKET` is not set.

use std::{convert::Infallible, env, future::pending, net::TcpListener, pin::pin, time::Duration};

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::health::Health;
use crate::{net::inherited_listeners, server::ShutdownSignals};

/// How often the status line is updated that `systemctl status` shows.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// How long a reload of files may take until it counts as done: they are looked at twice, half a second apart.
const RELOAD_TIME: Duration = Duration::from_millis(1500);

/// How much longer than the drain timeout the process may take to end: what the units of `assets/systemd` allow beyond
/// the default one.
const CLEANUP_TIME: Duration = Duration::from_secs(4);

/// The name of the socket for the tunnel port where several are inherited (`FileDescriptorName=`).
const TUNNEL_SOCKET: &str = "tunnel";

/// The connection to the service manager.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// Whether it is to be notified.
    is_present: bool,
    /// Within which time it has to hear from this process, again and again; `None` if it does not watch.
    watchdog: Option<Duration>,
}

/// The connections that a process has to the rest of the program while it is watched.
pub(super) struct Watched<'a> {
    /// Checks that the process works, before each notification of the watchdog.
    pub(super) health: Health,
    /// Says that the process drains.
    pub(super) shutdown: &'a ShutdownSignals,
    /// How long the drain may take.
    pub(super) drain_timeout: Duration,
    /// Changes when files are read again; `None` if there are none.
    pub(super) reload: Option<watch::Receiver<()>>,
}

impl ServiceManager {
    /// Reads from the environment whether there is a service manager and whether it watches this process.
    pub(super) fn from_env() -> Self {
        Self {
            is_present: env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled().filter(|time| !time.is_zero()),
        }
    }

    /// Notifies the service manager of all that it wants to know: READY once `ready` has completed, STOPPING when the
    /// drain begins, with the time that it may take, RELOADING and READY for each reload, WATCHDOG twice in the time
    /// that it allows while the process works, and what `status` returns. Never completes.
    pub(super) async fn inform(
        &self,
        watched: Watched<'_>,
        ready: impl Future<Output = ()>,
        status: impl Fn() -> String,
    ) -> Infallible {
        if !self.is_present {
            return pending().await;
        }
        let Watched { health, shutdown, drain_timeout, mut reload } = watched;
        let mut alive = interval(self.watchdog.map_or(STATUS_INTERVAL, |time| time / 2));
        let mut shown = interval(STATUS_INTERVAL);
        for ticks in [&mut alive, &mut shown] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut ready = pin!(ready);
        let (mut is_ready, mut is_stopping, mut last_status) = (false, false, String::new());
        let mut reload_ends: Option<Instant> = None;
        loop {
            let reloaded = async {
                if let Some(reload) = &mut reload
                    && reload.changed().await.is_ok()
                {
                    return;
                }
                // SIGHUP has another meaning.
                pending().await
            };
            tokio::select! {
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    self.notify(&[NotifyState::Ready]).await;
                }
                () = shutdown.requested(), if !is_stopping => {
                    is_stopping = true;
                    // A unit knows the default drain timeout only (TimeoutStopSec=), and kills what takes longer. The
                    // crate's own state is too small for more than 71 minutes.
                    let extended = (drain_timeout + CLEANUP_TIME).as_micros();
                    let extended = format!("EXTEND_TIMEOUT_USEC={extended}");
                    self.notify(&[NotifyState::Stopping, NotifyState::Custom(&extended)]).await;
                }
                () = reloaded, if is_ready && !is_stopping => {
                    // systemd 253 and later compare the time with that of their SIGHUP.
                    let mut states = vec![NotifyState::Reloading];
                    states.extend(NotifyState::monotonic_usec_now());
                    self.notify(&states).await;
                    reload_ends = Some(Instant::now() + RELOAD_TIME);
                }
                () = sleep_until(reload_ends.unwrap_or_else(Instant::now)), if reload_ends.is_some() => {
                    reload_ends = None;
                    self.notify(&[NotifyState::Ready]).await;
                }
                _ = alive.tick(), if self.watchdog.is_some() => match health.check_workers().await {
                    Ok(()) => self.notify(&[NotifyState::Watchdog]).await,
                    Err(why) => tracing::error!("the watchdog of the service manager is not notified: {why}"),
                },
                _ = shown.tick() => {}
            }
            let status = status();
            if status != last_status {
                self.notify(&[NotifyState::Status(&status)]).await;
                last_status = status;
            }
        }
    }

    /// Reports that the process ends. Also where that was reported before, because the end may have been faster.
    pub(super) async fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]).await;
    }

    /// Sends one message.
    async fn notify(&self, states: &[NotifyState<'_>]) {
        if !self.is_present {
            return;
        }
        let message = states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        // On another thread: it waits while the queue of the socket is full, as it is for good where init has crashed.
        let sent = tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&message)]));
        if let Ok(Err(error)) = sent.await {
            tracing::debug!("cannot notify the service manager ($NOTIFY_SOCKET): {error}");
        }
    }
}

/// Returns the tunnel port that the service manager has opened (socket activation); `None` if it has opened none. To be
/// called once.
///
/// # Errors
/// It has passed something else, or several sockets of which none is named `tunnel`.
pub(super) fn inherited_tunnel_port() -> anyhow::Result<Option<TcpListener>> {
    let mut sockets = inherited_listeners().context("socket activation (LISTEN_FDS)")?;
    if sockets.len() <= 1 {
        return Ok(sockets.pop().map(|(_, socket)| socket));
    }
    match sockets.iter().position(|(name, _)| name == TUNNEL_SOCKET) {
        Some(at) => Ok(Some(sockets.swap_remove(at).1)),
        None => {
            let names: Vec<&str> = sockets.iter().map(|(name, _)| &name[..]).collect();
            bail!(
                "socket activation: none of the sockets {} is named «{TUNNEL_SOCKET}»: set \
                 FileDescriptorName={TUNNEL_SOCKET} in the unit of the one for the tunnel port",
                names.join(", ")
            );
        }
    }
}
