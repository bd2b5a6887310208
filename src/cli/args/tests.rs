//! The command line is consistent, has the library's defaults, and refuses invalid values.

use clap::{CommandFactory, Parser};

use super::*;
use crate::{config::CongestionControl, ids::Policy};

#[test]
fn the_command_line_is_consistent() {
    CliArgs::command().debug_assert();
}

#[test]
fn the_defaults_of_the_command_line_are_those_of_the_library() {
    let CliCommand::Server(server) = CliArgs::parse_from(["underpass", "server"]).command else { panic!() };
    assert_eq!(format!("{:?}", server.config()), format!("{:?}", ServerConfig::default()));
    let line = ["underpass", "proxy", "--server", "h:1", "--port", "8080", "--to", "t:2", "--name", ""];
    let CliCommand::Proxy(proxy) = CliArgs::parse_from(line).command else { panic!() };
    let expected = ProxyConfig::new("h:1", "8080".parse().unwrap(), "t:2");
    assert_eq!(format!("{:?}", proxy.config()), format!("{expected:?}"));
}

#[test]
fn chunk_sizes_accept_a_unit() {
    for (text, bytes) in [("8K", 8192), ("256k", 262_144), ("1024", 1024)] {
        let CliCommand::Server(server) =
            CliArgs::parse_from(["underpass", "server", "--chunk", text]).command
        else {
            panic!()
        };
        assert_eq!(server.config().max_chunk, Some(bytes));
    }
}

#[test]
fn the_number_of_channels_is_automatic_or_fixed() {
    for (text, count) in
        [("auto", ChannelCount::Auto), ("1", ChannelCount::Fixed(1)), ("64", ChannelCount::Fixed(64))]
    {
        let line =
            ["underpass", "proxy", "--server", "h:1", "--port", "1", "--to", "t:2", "--channels", text];
        let CliCommand::Proxy(proxy) = CliArgs::parse_from(line).command else { panic!() };
        assert_eq!(proxy.config().channels, count);
    }
}

#[test]
fn policies_have_the_same_names_on_the_command_line_as_elsewhere() {
    for policy in Policy::ALL {
        let line = ["underpass", "server", "--policy", &policy.to_string()];
        let CliCommand::Server(server) = CliArgs::parse_from(line).command else { panic!() };
        assert_eq!(server.config().default_policy, policy);
    }
}

#[test]
fn invalid_arguments_are_refused() {
    for line in [
        "server --wait -1",
        "server --wait 1e30",
        "server --wait nan",
        "server --refresh 0.01",
        "server --ports 9-8",
        "server --policy fair",
        "proxy --server h --port 1 --to t:2",
        "proxy --server h:1 --port 65536 --to t:2",
        "proxy --server h:1 --port 1 --to t:2 --channels 0",
        "proxy --server h:1 --port 1 --to t:2 --channels 65",
        "proxy --server h:1 --port 1 --to t:2 --channels many",
        "proxy --server h:1 --port 1 --to t:2 --group a/b",
        "proxy --server h:1 --port 1 --to t:2 --weight 0",
        "proxy --server h:1 --port 1 --to t:2 --weight 1001",
        "server --token a --token-file b",
        "server --successor here",
        "server --chunk 8M",
        "server --listen localhost:7000",
        "server --listen 7000",
        "server --theme pink",
        "server --log bogus=foo",
        "server --token ",
        "server --chunk 257K",
        "proxy --server h:1 --port 1 --to t:2 --chunk 1000",
        "proxy --server h:1 --port 1 --to t:2 --congestion nagle",
        "server --congestion ",
    ] {
        let words = ["underpass"].into_iter().chain(line.split(' '));
        assert!(CliArgs::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn a_congestion_control_is_one_that_the_kernel_offers() {
    let parse = |name| CliArgs::try_parse_from(["underpass", "server", "--congestion", name]);
    let CliCommand::Server(server) = parse("system").unwrap().command else { panic!() };
    assert_eq!(server.config().congestion, CongestionControl::System);
    let error = parse("nagle").unwrap_err().to_string();
    if !cfg!(target_os = "linux") {
        return assert!(error.contains("no choice of congestion controls"), "{error}");
    }
    // Every Linux has Reno.
    assert!(error.contains("'nagle'") && error.contains("reno"), "{error}");
    let CliCommand::Server(server) = parse("reno").unwrap().command else { panic!() };
    assert_eq!(server.config().congestion, CongestionControl::Named("reno".to_owned()));
}
