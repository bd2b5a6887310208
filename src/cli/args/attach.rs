//! The arguments of `underpass attach`, and of its end on another machine.

use clap::{Args, ValueHint};

use super::{
    operate::{CONTROL_VARIABLE, InstanceArgs, SocketArg, instance},
    shared::LookArgs,
};

/// The arguments of `underpass attach`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AttachArgs {
    /// The server: its name, or the path of its control socket; or `ssh HOST`, and the name or path there [default: the
    /// only one that runs]
    #[arg(value_name = "NAME|PATH|ssh HOST", num_args = 0..=3)]
    target: Vec<String>,
    /// The same as the name or path, as all other commands for a running server take it; with `ssh HOST`, there
    /// [default: $UNDERPASS_CONTROL, but for ssh]
    #[arg(long, value_name = "NAME|PATH", value_parser = instance, value_hint = ValueHint::FilePath)]
    control: Option<SocketArg>,
    /// Disable all commands that change anything but the display
    #[arg(long)]
    pub(in crate::cli) read_only: bool,
    /// How the cockpit looks
    #[command(flatten)]
    pub(in crate::cli) screen: LookArgs,
}

/// Where the server is that the cockpit is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum AttachTarget {
    /// On this machine.
    Here(Option<SocketArg>),
    /// On another machine.
    Ssh {
        /// What ssh calls it.
        host: String,
        /// The name or the path there.
        instance: Option<String>,
    },
}

impl AttachArgs {
    /// Returns where the server is.
    ///
    /// # Errors
    /// The words make no sense together; the message says what to write.
    pub(in crate::cli) fn target(&self) -> anyhow::Result<AttachTarget> {
        let words: Vec<&str> = self.target.iter().map(String::as_str).collect();
        let named = |name: &str| instance(name).map_err(anyhow::Error::msg);
        let (host, positional) = match words[..] {
            [] => (None, None),
            ["ssh"] => anyhow::bail!("the host is missing: underpass attach ssh HOST"),
            ["ssh", host] => (Some(host), None),
            ["ssh", host, name] => (Some(host), Some(named(name)?)),
            [name] => (None, Some(named(name)?)),
            _ => anyhow::bail!(
                "too many words: underpass attach [NAME|PATH], or underpass attach ssh HOST [NAME|PATH]"
            ),
        };
        let given = match (positional, &self.control) {
            (Some(one), Some(other)) if one != *other => {
                anyhow::bail!("{one} and --control {other} are two processes: name one of them")
            }
            (one, other) => one.or_else(|| other.clone()),
        };
        if let Some(host) = host {
            let instance = given.map(|given| given.to_string());
            return Ok(AttachTarget::Ssh { host: host.to_owned(), instance });
        }
        // The variable is about this machine. Set to nothing it is not set, as for the other commands.
        let variable = || std::env::var(CONTROL_VARIABLE).ok().filter(|value| !value.is_empty());
        let given = match given {
            None => variable().as_deref().map(named).transpose()?,
            given => given,
        };
        Ok(AttachTarget::Here(given))
    }
}

/// The arguments of `underpass control-relay`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RelayArgs {
    /// The server
    #[command(flatten)]
    pub(in crate::cli) instance: InstanceArgs,
}

#[cfg(test)]
mod tests;
