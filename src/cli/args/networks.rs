//! The arguments that admit users by their networks.

use clap::Args;

use crate::ids::{Network, NetworkError, UserNetworks};

/// Which users are admitted.
#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    /// Admit users of this network, such as 10.0.0.0/8 or 2001:db8::/32, or of this address, and no others; repeat it for
    /// several. A user has to be admitted by the server and by a proxy of the service [default: all users]
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Network>,
    /// Refuse users of this network or address, also where --allow admits them; repeat it for several
    #[arg(long, value_name = "CIDR")]
    deny: Vec<Network>,
}

impl NetworkArgs {
    /// Returns the users that are admitted.
    ///
    /// # Errors
    /// There are too many networks.
    pub(super) fn networks(&self) -> Result<UserNetworks, NetworkError> {
        UserNetworks::new(&self.allow, &self.deny)
    }
}
