//! Connection attempts to several addresses at once (Happy Eyeballs, RFC 8305). Sockets and timeouts of names are not
//! in here: the caller says how to connect to one address.
//!
//! No crate did this when it was needed: `happy-eyeballs` had its last release in 2023, hyper-util's connector races
//! one address of each family but tries those of one family after each other, and neither repeats attempts.

use std::{cmp::min, future::Future, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

/// The delay between the first attempts to two addresses (RFC 8305, section 5: 250 ms recommended, 100 ms to 2 s
/// permitted). An attempt that fails starts the next one at once.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses of a name that are tried. The tenth would be tried after more than two seconds.
pub(super) const MAX_ADDRESSES: usize = 10;

/// The most attempts to one address that are pending at the same time. Each retransmits its SYN after 1, 3, 7 and 15 s,
/// so that 16 attempts at intervals of 500 ms send a SYN every 500 ms for more than 20 s.
const MAX_PENDING_PER_ADDRESS: u32 = 16;

/// When attempts start, and when the last ones are given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptSchedule {
    /// When all pending attempts are cancelled.
    pub(super) deadline: Instant,
    /// The interval of further attempts to an address that has not answered yet; `None` for one attempt per address.
    pub(super) repeat_interval: Option<Duration>,
}

/// An address that was tried without success.
#[derive(Debug)]
pub struct FailedAddress {
    /// The address.
    pub address: SocketAddr,
    /// The last error of connect(2); `None` if the address answered no attempt before the deadline.
    pub error: Option<io::Error>,
}

/// The attempts to one address.
#[derive(Debug)]
struct AddressAttempts {
    /// The address.
    address: SocketAddr,
    /// The number of attempts that have neither succeeded nor failed.
    pending: u32,
    /// When the last attempt started.
    last_start: Instant,
    /// The error of the last attempt that failed.
    error: Option<io::Error>,
}

/// Connects to the first of `addresses` that answers: the attempts start one after the other in this order, and run
/// beside each other. Returns the connection with its address, or every address that was tried and its error.
///
/// The returned future owns all attempts: dropping it cancels them, and a success cancels the others.
pub(super) async fn connect_first<C, F>(
    addresses: &[SocketAddr],
    schedule: AttemptSchedule,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, C), Vec<FailedAddress>>
where
    F: Future<Output = io::Result<C>>,
{
    let mut untried = addresses.iter().take(MAX_ADDRESSES);
    let mut tried: Vec<AddressAttempts> = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let attempt = |index: usize, address| {
        let connected = connect(address);
        async move { (index, connected.await) }
    };
    let mut next_first_attempt = Instant::now();
    loop {
        let now = Instant::now();
        // An attempt that fails is followed by the next one at once; so is the last pending one.
        if now >= next_first_attempt
            && let Some(&address) = untried.next()
        {
            attempts.push(attempt(tried.len(), address));
            tried.push(AddressAttempts { address, pending: 1, last_start: now, error: None });
            next_first_attempt = now + ATTEMPT_DELAY;
        }
        if attempts.is_empty() || now >= schedule.deadline {
            return Err(tried.into_iter().map(FailedAddress::from).collect());
        }
        let mut wake = schedule.deadline;
        if untried.len() > 0 {
            wake = min(wake, next_first_attempt);
        }
        for (index, address) in tried.iter_mut().enumerate() {
            let Some(mut due) = address.repeat_due(schedule.repeat_interval) else { continue };
            if now >= due {
                attempts.push(attempt(index, address.address));
                (address.pending, address.last_start) = (address.pending + 1, now);
                let Some(next) = address.repeat_due(schedule.repeat_interval) else { continue };
                due = next;
            }
            wake = min(wake, due);
        }
        tokio::select! {
            // Polled in this order: most attempts to a machine nearby succeed at once, and need no timer.
            biased;
            Some((index, result)) = attempts.next() => match result {
                Ok(connection) => return Ok((tried[index].address, connection)),
                Err(error) => {
                    tried[index].pending -= 1;
                    tried[index].error = Some(error);
                    next_first_attempt = now;
                }
            },
            () = sleep_until(wake) => {}
        }
    }
}

impl AddressAttempts {
    /// Returns when a further attempt to this address is due; `None` if none is: they are disabled, none is pending
    /// because the address has answered with an error, or too many are pending.
    fn repeat_due(&self, interval: Option<Duration>) -> Option<Instant> {
        let is_unanswered = (1..MAX_PENDING_PER_ADDRESS).contains(&self.pending);
        interval.filter(|_| is_unanswered).map(|interval| self.last_start + interval)
    }
}

impl From<AddressAttempts> for FailedAddress {
    fn from(attempts: AddressAttempts) -> Self {
        Self { address: attempts.address, error: attempts.error }
    }
}

/// Sorts addresses into the order of attempts: the preferred one first if it is among them, then alternately one of
/// the other and one of the same family (RFC 8305, section 4), each family in the given order. Removes duplicates.
pub(super) fn interleave_families(
    addresses: &[SocketAddr],
    preferred: Option<SocketAddr>,
) -> Vec<SocketAddr> {
    let mut unique: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    for address in preferred.iter().filter(|address| addresses.contains(address)).chain(addresses) {
        if !unique.contains(address) {
            unique.push(*address);
        }
    }
    let is_first_family_v6 = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) =
        unique.into_iter().partition(|address| address.is_ipv6() == is_first_family_v6);
    let count = same.len().max(other.len());
    (0..count).flat_map(|n| same.get(n).into_iter().chain(other.get(n))).copied().collect()
}

#[cfg(test)]
mod tests;
