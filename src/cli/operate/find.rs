//! Finding the process that a command is for.

use std::path::PathBuf;

use super::Failure;
use crate::{
    cli::args::operate::SocketArg,
    operator::{Client, Instance, environment, instances},
};

/// Connects to the control socket that `wanted` names or is the path of; without it, to the only one there is.
pub(super) async fn connect(wanted: Option<&SocketArg>) -> Result<Client, Failure> {
    Ok(Client::connect(&path(wanted)?).await?)
}

/// Returns the path of the control socket that `wanted` names or is the path of; without it, of the only one there is.
pub(super) fn path(wanted: Option<&SocketArg>) -> Result<PathBuf, Failure> {
    let wanted = match wanted {
        Some(SocketArg::Path(path)) => return Ok(path.clone()),
        Some(SocketArg::Name(name)) => Some(name.as_str()),
        Some(SocketArg::Off) | None => None,
    };
    let found = instances(&environment);
    let instance = choose(wanted, &found).map_err(Failure::Unreachable)?;
    Ok(instance.path.clone())
}

/// Chooses among the processes that run.
///
/// # Errors
/// There is none or more than one; the message says what to do.
fn choose<'a>(wanted: Option<&str>, found: &'a [Instance]) -> Result<&'a Instance, String> {
    let named: Vec<&Instance> =
        found.iter().filter(|instance| wanted.is_none_or(|wanted| wanted == instance.name)).collect();
    // Those of other users count only where there is no own one.
    let permitted: Vec<&Instance> = named.iter().copied().filter(|instance| instance.is_permitted).collect();
    match (&permitted[..], &named[..], wanted) {
        ([only], ..) => Ok(only),
        ([], [], None) => Err(
            "no server or proxy of this user is running with a control socket: start one (underpass server), run this as the user \
             of the one that is meant (sudo), or give the path of its socket (--control PATH); its log names it"
                .to_owned(),
        ),
        ([], [], Some(wanted)) if found.is_empty() => Err(format!(
            "no server or proxy «{wanted}» of this user is running, nor any other one; for that of another user run this as \
             that user (sudo)"
        )),
        ([], [], Some(wanted)) => {
            Err(format!("no server or proxy «{wanted}» is running; there is: {}", names(found.iter())))
        }
        ([], others, _) => Err(format!(
            "this user may not use the control socket of {}: run this as its user or as root (sudo), or start it with \
             --control-group and a group that this user is a member of",
            paths(others)
        )),
        (several, ..) => Err(format!(
            "several are running; choose one with --control: {}",
            if wanted.is_some() { paths(several) } else { names(several.iter().copied()) }
        )),
    }
}

/// Lists the names of processes; paths where a name occurs twice.
fn names<'a>(found: impl Iterator<Item = &'a Instance>) -> String {
    let found: Vec<&Instance> = found.collect();
    let is_unique = |name: &str| found.iter().filter(|instance| instance.name == name).count() == 1;
    let shown = found.iter().map(|instance| {
        if is_unique(&instance.name) { instance.name.clone() } else { instance.path.display().to_string() }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Lists the paths of sockets.
fn paths(found: &[&Instance]) -> String {
    found.iter().map(|instance| instance.path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
