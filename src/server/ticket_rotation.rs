//! The resumption tickets that the server issues for one link, and when an older ticket becomes invalid.

#[cfg(test)]
mod tests;

/// The random id by which a proxy names its link when it adds a channel or resumes. Nobody else knows it, except who
/// reads a channel that is not encrypted.
pub(super) type LinkId = [u8; 16];

/// A resumption ticket as the server stores it: with this secret, in addition to the token, a proxy adds a channel to
/// its link or resumes the link after the loss of all channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IssuedTicket {
    /// The number of the ticket within its link: increases by one with every resumption, and begins again at 0 after
    /// 2^32 of them. It only tells the two tickets apart that may be valid at the same time.
    pub(super) epoch: u32,
    /// The random secret that the proxy must prove by HMAC.
    pub(super) secret: [u8; 32],
}

/// The resumption tickets of one link. Each resumption uses the current ticket and issues the next one:
///
/// ```text
///  current: n ──issue_next──► current: n, next: n+1 ──confirm(n+1)──► current: n+1
/// ```
///
/// The current ticket stays valid until the proxy has proved that it received the next one, because the WELCOME that
/// carries the next ticket may be lost together with its connection.
pub(super) struct TicketRotation {
    /// The ticket that the proxy has proved to have received.
    current: IssuedTicket,
    /// The ticket that was issued last and that the proxy has not used yet.
    next: Option<IssuedTicket>,
}

impl TicketRotation {
    /// Creates the tickets of a new link: one current ticket with epoch 0.
    pub(super) fn new() -> Self {
        Self { current: IssuedTicket { epoch: 0, secret: rand::random() }, next: None }
    }

    /// Returns the current ticket: the newest one that the proxy has proved to have received.
    pub(super) fn current(&self) -> IssuedTicket {
        self.current
    }

    /// Returns the ticket with this epoch, whose secret the proxy has to prove; `None` if there is no valid one.
    pub(super) fn find(&self, epoch: u32) -> Option<IssuedTicket> {
        [Some(self.current), self.next].into_iter().flatten().find(|ticket| ticket.epoch == epoch)
    }

    /// Records that the proxy has proved to have received `ticket`: if it is the next one, it becomes current and the
    /// one before invalid. Returns whether `ticket` is current now; `false` means that it has become invalid
    /// meanwhile.
    pub(super) fn confirm(&mut self, ticket: IssuedTicket) -> bool {
        if self.next == Some(ticket) {
            self.current = ticket;
            self.next = None;
        }
        self.current == ticket
    }

    /// Issues the next resumption ticket, for a proxy that has proved the current one. Replaces a ticket that was
    /// issued before and never used: the WELCOME that carried it was lost.
    pub(super) fn issue_next(&mut self) -> IssuedTicket {
        let ticket = IssuedTicket { epoch: self.current.epoch.wrapping_add(1), secret: rand::random() };
        self.next = Some(ticket);
        ticket
    }
}

impl std::fmt::Debug for TicketRotation {
    /// Omits the secrets, which must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketRotation").field("epoch", &self.current.epoch).finish_non_exhaustive()
    }
}
