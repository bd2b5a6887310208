//! The arguments that admit users by their networks.

use clap::Args;

use crate::ids::{Network, NetworkError, NetworkSet, UserNetworks};

/// Which users are admitted.
#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    /// Admit users of this network, such as 10.0.0.0/8 or 2001:db8::/32, or of this address, and no others; repeat it
    /// for several. A user has to be admitted by the server and by a proxy of the service [default: all users]
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
        self.networks_with(&[], &[])
    }

    /// Returns the users that are admitted to a service with networks of its own: `allow` takes the place of the
    /// general ones, and `deny` is added to them.
    ///
    /// # Errors
    /// There are too many networks.
    pub(super) fn networks_with(
        &self,
        allow: &[Network],
        deny: &[Network],
    ) -> Result<UserNetworks, NetworkError> {
        let allow = if allow.is_empty() { &self.allow } else { allow };
        UserNetworks::new(allow, &[&self.deny, deny].concat())
    }
}

/// The load balancers in front of a server.
#[derive(Debug, Args)]
pub(super) struct BalancerArgs {
    /// Load balancer in front of the public ports or the tunnel port, by network or address; repeat it for several.
    /// Each connection from there has to begin with a header of the PROXY protocol, v1 or v2, whose address becomes
    /// that of the user or the proxy everywhere. From other addresses the header is payload [default: none]
    #[arg(long = "trust-proxy-protocol", value_name = "CIDR")]
    trusted: Vec<Network>,
}

impl BalancerArgs {
    /// Returns the addresses of the load balancers.
    pub(super) fn trusted(&self) -> NetworkSet {
        NetworkSet::new(self.trusted.iter().copied())
    }
}
