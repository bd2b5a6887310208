//! How the server is reached: by its control socket, on this machine or on another one by ssh.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    process::{Command, Stdio},
};

use anyhow::Context;
use tokio::net::UnixStream;

use crate::{
    cli::{args::operate::SocketArg, operate},
    operator::Client,
};

/// Where the server is.
#[derive(Debug)]
pub(super) enum Destination {
    /// On this machine: its name, or the path of its control socket; `None` for the only one that runs.
    Here(Option<SocketArg>),
    /// On another machine.
    Ssh {
        /// What ssh calls it.
        host: String,
        /// The name or the path there.
        instance: Option<String>,
    },
}

impl Destination {
    /// Connects. The first time, ssh may ask for a password, and says on the terminal what is wrong; later the terminal
    /// is the cockpit's.
    pub(super) async fn dial(&self, is_first: bool) -> anyhow::Result<Client> {
        match self {
            Self::Here(instance) => Ok(Client::connect(&operate::socket_path(instance.as_ref())?).await?),
            Self::Ssh { host, instance } => {
                let (ours, theirs) = StdUnixStream::pair().context("cannot create a pair of sockets")?;
                ours.set_nonblocking(true).context("cannot configure a socket")?;
                let input = OwnedFd::from(theirs.try_clone().context("cannot duplicate a socket")?);
                let mut ssh = Command::new(std::env::var_os("UNDERPASS_SSH").unwrap_or("ssh".into()));
                if !is_first {
                    ssh.args(["-o", "BatchMode=yes"]);
                }
                ssh.args(["-T", "--", host, "underpass", "control-relay"]);
                if let Some(instance) = instance {
                    ssh.args(["--control", instance]);
                }
                ssh.stdin(Stdio::from(input)).stdout(Stdio::from(OwnedFd::from(theirs)));
                ssh.stderr(if is_first { Stdio::inherit() } else { Stdio::null() });
                let mut child = ssh.spawn().context("cannot run ssh")?;
                // The command holds its own copies of the sockets.
                drop(ssh);
                // Reaps it. It ends when the connection does.
                std::thread::spawn(move || _ = child.wait());
                let socket = UnixStream::from_std(ours).context("cannot use a socket")?;
                Client::over(socket).await.with_context(|| {
                    format!("cannot attach through ssh to {host}; is underpass installed there?")
                })
            }
        }
    }
}
