//! The servers of a proxy at present, and what another list of them changes.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{open_streams::OpenStreams, server_session::ServerSession};
use crate::config::ServerEndpoint;

/// The sessions of a proxy with its servers, in the order of the configuration.
#[derive(Debug)]
pub(super) struct ServerSessions {
    /// The sessions, which [`Proxy::replace_servers`](super::Proxy::replace_servers) replaces.
    sessions: watch::Sender<Vec<Arc<ServerSession>>>,
    /// How servers that were removed are verified, as long as a link to one of them continues.
    removed: Mutex<Vec<Weak<ArcSwap<ServerEndpoint>>>>,
    /// The open streams, of which each server has its share.
    streams: OpenStreams,
    /// The number of the next server. Numbers are given once, because links of a removed server may continue.
    next_number: AtomicUsize,
    /// Whether there is more than one server, or was: from then on the log names the server of each event.
    are_several: Arc<AtomicBool>,
}

impl ServerSessions {
    /// Creates the sessions of a new proxy.
    pub(super) fn new(servers: Vec<ServerEndpoint>, streams: OpenStreams) -> Self {
        let sessions = Self {
            sessions: watch::Sender::new(Vec::new()),
            removed: Mutex::default(),
            streams,
            next_number: AtomicUsize::new(0),
            are_several: Arc::default(),
        };
        sessions.replace(servers);
        sessions
    }

    /// Replaces the servers. One with the address of an earlier one is the same, and its new channels are verified as
    /// the new list says. The others are added, and those that are not in the list are removed. The links of one that
    /// was removed and is added again are resumed as the new list says, too: who has given it another fingerprint
    /// trusts the former key no more.
    pub(super) fn replace(&self, servers: Vec<ServerEndpoint>) {
        let mut removed = self.removed.lock();
        removed.retain(|endpoint| endpoint.strong_count() > 0);
        for endpoint in &servers {
            let continued = removed.iter().filter_map(Weak::upgrade);
            continued
                .filter(|continued| continued.load().address == endpoint.address)
                .for_each(|continued| continued.store(Arc::new(endpoint.clone())));
        }
        self.sessions.send_modify(|sessions| {
            let mut former = std::mem::take(sessions);
            for endpoint in servers {
                let known = former.iter().position(|session| session.address() == endpoint.address);
                sessions.push(match known {
                    Some(index) => {
                        let session = former.remove(index);
                        session.replace(endpoint);
                        session
                    }
                    None => Arc::new(ServerSession::new(self.next_number.fetch_add(1, Relaxed), endpoint)),
                });
            }
            for session in former {
                session.remove();
                removed.push(Arc::downgrade(session.endpoint()));
            }
            let numbers: Vec<_> = sessions.iter().map(|session| session.number()).collect();
            self.streams.set_servers(&numbers);
            self.are_several.fetch_or(numbers.len() > 1, Relaxed);
        });
    }

    /// Returns a receiver of the sessions, which has not seen those at present.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<Arc<ServerSession>>> {
        let mut sessions = self.sessions.subscribe();
        sessions.mark_changed();
        sessions
    }

    /// Returns the sessions at present.
    pub(super) fn all(&self) -> Vec<Arc<ServerSession>> {
        self.sessions.borrow().clone()
    }

    /// Returns whether there is more than one server, or was.
    pub(super) fn are_several(&self) -> &Arc<AtomicBool> {
        &self.are_several
    }
}
