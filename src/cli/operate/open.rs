//! Opening the control socket of a server or a proxy.

use anyhow::Context as _;

use crate::{
    cli::args::operate::{ControlSocketArgs, SocketArg},
    config::max_control_connections,
    operator::{
        AccessRules, ControlGroup, ControlOptions, ControlServer, ProcessHandle, Role, SocketChoice,
        SocketError, Subject,
    },
    runtime::descriptor_limit,
};

/// The control socket of this process, or none.
#[derive(Debug)]
pub(in crate::cli) struct Control(Option<ControlServer>);

/// Opens the control socket. A process without one is as well: that it cannot be created is a warning.
///
/// # Errors
/// A group does not exist: its members would be refused, which shows only when one connects.
pub(in crate::cli) fn open(
    args: &ControlSocketArgs,
    role: Role,
    hands_over: bool,
    subject: Subject,
    process: ProcessHandle,
) -> anyhow::Result<Control> {
    let choice = match &args.control {
        Some(SocketArg::Off) => return Ok(Control(None)),
        Some(SocketArg::Path(path)) => SocketChoice::Path(path.clone()),
        Some(SocketArg::Name(name)) => SocketChoice::Named { name: name.clone(), may_be_numbered: false },
        // A successor has the name of its predecessor.
        None => SocketChoice::Named { name: role.as_str().to_owned(), may_be_numbered: !hands_over },
    };
    let group = |option: &str, name: &Option<String>| {
        let found = name.as_deref().map(ControlGroup::find).transpose();
        found.map_err(anyhow::Error::msg).with_context(|| option.to_owned())
    };
    let rules = AccessRules {
        operators: group("--control-group", &args.control_group)?,
        readers: group("--control-readers", &args.control_readers)?,
    };
    let max_connections = max_control_connections(descriptor_limit());
    let options = ControlOptions { choice, rules, hands_over, max_connections };
    let opened = ControlServer::open(options, subject, process);
    let is_wanted = args.control.is_some() || args.control_group.is_some() || args.control_readers.is_some();
    let report = |error: &SocketError| match error {
        // The operator has not asked for one.
        SocketError::NoDirectory(_) if !is_wanted => tracing::info!("{error}"),
        error => tracing::warn!("{error}"),
    };
    Ok(Control(opened.inspect_err(report).ok()))
}

impl Control {
    /// Returns the command that shows this process in a cockpit; `None` without a control socket.
    pub(in crate::cli) fn attach_command(&self) -> Option<String> {
        Some(format!("underpass attach {}", self.0.as_ref()?.place()))
    }

    /// Serves the control socket. Never completes.
    pub(in crate::cli) async fn serve(&mut self) {
        match &mut self.0 {
            Some(server) => server.serve().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the connections and removes the socket.
    pub(in crate::cli) async fn close(self) {
        if let Some(server) = self.0 {
            server.close().await;
        }
    }
}
