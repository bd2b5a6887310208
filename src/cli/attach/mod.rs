//! `underpass attach`: the cockpit of a server in another process, and `underpass control-relay`, its end on another
//! machine.

mod dial;
mod earlier;
mod link;
mod outgoing;
mod source;

use std::{io, net::Shutdown, os::unix::net::UnixStream, process::ExitCode, thread};

use anyhow::Context;

use super::{
    REFUSED,
    args::attach::{AttachArgs, AttachTarget, RelayArgs},
    guest, operate, output,
};
use crate::{
    operator,
    tui::{Exit, Labels, Role, Subject},
};

use dial::Destination;
use link::Link;
use source::AttachedSource;

/// Shows the cockpit of a server until the operator detaches.
pub(super) fn run(args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let settings = args.screen.settings(args.read_only)?;
    let destination = match args.target().map_err(|error| operate::usage_error(&error))? {
        AttachTarget::Here(instance) => Destination::Here(instance),
        AttachTarget::Ssh { host, instance } => Destination::Ssh { host, instance },
    };
    let link = match Link::open(destination) {
        Ok(link) => link,
        Err(error) if error.downcast_ref().is_some_and(operator::ClientError::is_other_version) => {
            output::complain(format_args!("{error:#}"));
            return Ok(ExitCode::from(REFUSED));
        }
        Err(error) => return Err(error),
    };
    let subject = match link.role {
        operator::Role::Server => Subject::Server,
        operator::Role::Proxy => Subject::Proxy,
    };
    let labels = Labels { role: Role::Attached, subject, title: link.name.clone(), ..Labels::default() };
    let source = AttachedSource::new(link.inbox, link.requests, link.capabilities);
    let hint = "without one use `underpass ps`, or `underpass events --follow`";
    match guest::show(Box::new(source), labels, settings, hint)? {
        Exit::TerminalGone => {}
        _ => {
            let (name, role) = (&link.name, link.role.as_str());
            output::complain(format_args!("detached from {name}; the {role} continues"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries the control protocol between a control socket and the standard streams, until the server ends the
/// connection.
pub(super) fn relay(args: &RelayArgs) -> anyhow::Result<ExitCode> {
    let path = operate::socket_path(args.instance.control.as_ref())?;
    let socket =
        UnixStream::connect(&path).with_context(|| format!("cannot connect to {}", path.display()))?;
    let (mut from_server, mut to_server) = (socket.try_clone()?, socket);
    // It ends with the process: a read of the standard input cannot be interrupted.
    thread::spawn(move || {
        _ = io::copy(&mut io::stdin().lock(), &mut to_server);
        _ = to_server.shutdown(Shutdown::Write);
    });
    io::copy(&mut from_server, &mut io::stdout().lock())
        .context("the connection to the control socket failed")?;
    Ok(ExitCode::SUCCESS)
}
