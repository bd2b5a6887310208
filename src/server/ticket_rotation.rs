/// What a link's proxy shows, beside the token, to add a channel to its link or to come back to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IssuedTicket {
    pub(super) epoch: u32,
    pub(super) secret: [u8; 32],
}

/// The tickets of one link. Coming back takes the ticket that is valid now and gives another for the next time:
///
/// ```text
///  valid: n ──offer──► valid: n, offered: n+1 ──honour(n+1)──► valid: n+1
/// ```
///
/// The old one stays valid until the proxy is known to have the new one, for the answer that carries it may be lost
/// with its connection.
pub(super) struct TicketRotation {
    valid: IssuedTicket,
    offered: Option<IssuedTicket>,
}

impl TicketRotation {
    pub(super) fn new() -> Self {
        Self { valid: IssuedTicket { epoch: 0, secret: rand::random() }, offered: None }
    }

    pub(super) fn valid(&self) -> IssuedTicket {
        self.valid
    }

    /// What a proxy has to prove that shows the ticket of this epoch; `None` if that is of no use any more.
    pub(super) fn of_epoch(&self, epoch: u32) -> Option<IssuedTicket> {
        [Some(self.valid), self.offered].into_iter().flatten().find(|ticket| ticket.epoch == epoch)
    }

    /// The proxy has this ticket and used it: earlier ones are void. False if it is itself.
    pub(super) fn honour(&mut self, ticket: IssuedTicket) -> bool {
        if self.offered == Some(ticket) {
            self.valid = ticket;
            self.offered = None;
        }
        self.valid == ticket
    }

    /// A new ticket for a proxy that has shown the valid one; what was offered before was lost on its way.
    pub(super) fn offer(&mut self) -> IssuedTicket {
        let ticket = IssuedTicket { epoch: self.valid.epoch.wrapping_add(1), secret: rand::random() };
        self.offered = Some(ticket);
        ticket
    }
}

impl std::fmt::Debug for TicketRotation {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketRotation").field("epoch", &self.valid.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_void_once_its_successor_was_used() {
        let mut tickets = TicketRotation::new();
        let first = tickets.valid();
        let second = tickets.offer();
        assert!(tickets.of_epoch(0) == Some(first) && tickets.of_epoch(1) == Some(second));
        assert!(tickets.honour(second));
        assert!(tickets.of_epoch(0).is_none() && !tickets.honour(first));
        assert!(tickets.honour(second), "other channels show it too");
    }

    #[test]
    fn an_offer_that_was_lost_is_void_once_there_is_another() {
        let mut tickets = TicketRotation::new();
        let lost = tickets.offer();
        let second = tickets.offer();
        assert!(tickets.honour(tickets.valid()), "the proxy has no other");
        assert!(tickets.honour(second) && !tickets.honour(lost));
    }
}
