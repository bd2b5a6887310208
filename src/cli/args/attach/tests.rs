//! Which process `attach` is for.

use clap::Parser as _;

use super::*;
use crate::cli::args::{CliArgs, CliCommand};

/// Returns the target of a line.
fn target(line: &str) -> Result<AttachTarget, String> {
    let words = ["underpass", "attach"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
    let args = CliArgs::try_parse_from(words).map_err(|error| error.to_string())?;
    let CliCommand::Attach(args) = args.command else { panic!() };
    args.target().map_err(|error| error.to_string())
}

#[test]
fn the_process_is_named_by_a_word_or_as_for_all_other_commands() {
    let named = |name: &str| AttachTarget::Here(Some(SocketArg::Name(name.to_owned())));
    let ssh = |instance: Option<&str>| AttachTarget::Ssh {
        host: "edge".to_owned(),
        instance: instance.map(str::to_owned),
    };
    for (line, expected) in [
        ("server-2", named("server-2")),
        ("--control server-2", named("server-2")),
        ("server-2 --control server-2", named("server-2")),
        ("--control=/run/x.sock", AttachTarget::Here(Some(SocketArg::Path("/run/x.sock".into())))),
        ("ssh edge", ssh(None)),
        ("ssh edge server-2", ssh(Some("server-2"))),
        ("ssh edge --control /run/x.sock", ssh(Some("/run/x.sock"))),
    ] {
        assert_eq!(target(line), Ok(expected), "{line}");
    }
    for (line, expected) in [
        ("server --control other", "server and --control other are two processes"),
        ("--control off", "off is for server and proxy"),
        ("ssh", "the host is missing"),
        ("a b", "too many words"),
    ] {
        let error = target(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
