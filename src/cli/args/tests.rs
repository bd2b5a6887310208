//! The command line is consistent, has the library's defaults, and refuses invalid values.

use clap::{CommandFactory, Parser};

use super::*;
use crate::{config::CongestionControl, ids::Policy};

/// Parses a line with blanks between its words. Returns the error as it is printed.
fn parse(line: &str) -> Result<CliArgs, String> {
    let words = ["underpass"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
    CliArgs::parse_line(words, Surroundings::NONE).map(|invocation| invocation.args).map_err(|error| {
        match error {
            parse::ArgsError::Line(error) => error.to_string(),
            error => error.to_string(),
        }
    })
}

/// A fingerprint.
const PIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A complete command line of a proxy.
const PROXY: &str = "proxy --server h:1 --port 1 --to t:2";

#[test]
fn an_error_names_the_option_and_what_to_write_instead() {
    for (line, option, advice) in [
        ("server --listen 7000", "--listen", "write 0.0.0.0:7000"),
        ("server --bind eth0", "--bind", "expected an IP address of this machine"),
        ("server --ports 9-8", "--ports", "write 8-9"),
        ("server --ports 0-8", "--ports", "from 1 to 65535"),
        ("server --wait -1", "--wait", "0 to 86400 seconds"),
        ("server --wait 5s", "--wait", "a number of seconds without a unit"),
        ("server --grace 1e30", "--grace", "0 to 86400 seconds"),
        ("server --drain x", "--drain", "such as 10 or 0.5"),
        ("server --successor http://h:1/", "--successor", "write HOST:PORT alone, h:1"),
        ("server --chunk 8M", "--chunk", "1K (1,000) to 256KiB (262,144)"),
        ("server --memory 512", "--memory", "did you mean 512MiB?"),
        ("proxy --server h:1 --port 1 --to t:2 --memory 1M", "--memory", "16M (16,000,000 bytes) to 1TiB"),
        ("server --window 256", "--window", "did you mean 256KiB?"),
        ("server --window 0", "--window", "without a unit, 0 is a number of bytes\n"),
        ("server --memory 1", "--memory", "without a unit, 1 is a number of bytes\n"),
        ("server --listen [::1]", "--listen", "write [::1]:7000\n"),
        ("server --token x", "--token", "with 1 character it can be guessed"),
        ("server --window 65MiB", "--window", "16K (16,000 bytes) to 64MiB"),
        ("server --chunk 8x", "--chunk", "8K (8,000), 8KiB (8,192)"),
        ("server --policy fair", "--policy", "least-streams"),
        ("server --theme drak", "--theme", "did you mean «dark»?"),
        ("server --refresh 0.01", "--refresh", "0.1 to 10 seconds"),
        ("server --log inof", "--log", "did you mean info?"),
        ("server --log lifecycle=wran", "--log", "did you mean warn?"),
        ("server --log lifecylce=warn", "--log", "did you mean lifecycle?"),
        ("server --workers x", "--workers", "a number of 1 to 1024"),
        ("server --record d --record-size 10", "--record-size", "16M (16,000,000 bytes) to 1TiB"),
        ("server --record d --record-days 0", "--record-days", "a number of 1 to 3650"),
        ("replay --speed 0 x", "--speed", "0.1 to 1000, such as 10"),
        ("replay", "<FILE|DIR>", "required arguments were not provided"),
        ("server --token-file", "--token-file <FILE>", "a value is required"),
        ("server --text off --text-without-token", "--text-without-token", "leave one of them out"),
        ("server --tokn x", "--tokn", "--token"),
        ("proxy --server h --port 1 --to t:2", "--server", "write h:PORT"),
        ("proxy --server h:0 --port 1 --to t:2", "--server", "port 0"),
        ("proxy --server h:1 --port 1 --to 8080", "--to", "write 127.0.0.1:8080"),
        ("proxy --server h:1 --port 65536 --to t:2", "--port", "a port of 1 to 65535"),
        (&format!("{PROXY} --group a/b"), "--group", "1 to 64 letters"),
        (&format!("{PROXY} --name a\u{1b}b"), "--name", "control characters"),
        (&format!("{PROXY} --channels 65"), "--channels", "a number of 1 to 64"),
        (&format!("{PROXY} --weight 1001"), "--weight", "a number of 1 to 1000"),
        (&format!("{PROXY} --format text --channels 2"), "--channels", "leave --channels out"),
        (&format!("{PROXY} --token a\u{1b}b"), "--token", "control characters"),
        ("server --token ", "--token", "the token is blank"),
        (
            "server --token secret",
            "--token",
            "too short, with 6 characters it can be guessed: let `underpass token`",
        ),
        (&format!("{PROXY} --token underpass_9pX2kQvLr7TzM4b"), "--token", "it has 25 of 46 characters"),
        ("server --plain", "--plain", "give --insecure too if the network is private"),
        ("server --listen [::ffff:192.0.2.1]:1 --plain", "--plain", "in clear text"),
        (
            "server --listen 127.0.0.1:1 --plain --text any",
            "--text any",
            "text proxies send the token itself",
        ),
        ("server --plain --cert f", "--cert", "cannot be used with"),
        ("server --key f", "--cert", "required"),
        (&format!("{PROXY} --plain"), "--plain to h:1", "give --insecure too if the network is private"),
        ("proxy --server 192.0.2.1:1 --port 1 --to t:2 --plain", "--plain", "in clear text"),
        (&format!("{PROXY} --format text"), "--format text", "--fingerprint, --ca or --verify system"),
        (&format!("{PROXY} --fingerprint abc"), "--fingerprint", "sha256: and 43 characters"),
        (&format!("{PROXY} --ca f --verify system"), "--ca", "cannot be used with"),
        (&format!("{PROXY} --plain --ca f"), "--plain", "cannot be used with"),
        (&format!("{PROXY} --verify host"), "--verify", "token, system"),
        ("proxy --server h:1", "--port <PORT>", "--to <HOST:PORT>"),
        ("proxy --port 1 --to t:2", "--server <HOST:PORT[#FINGERPRINT]>", "required"),
        ("proxy --server h:1 --port 1", "--to <HOST:PORT>", "required"),
        ("proxy --server h:1 --service 8080", "--service", "write PORT=HOST:PORT"),
        ("proxy --server h:1 --service x=t:2", "--service", "a port of 1 to 65535"),
        ("proxy --server h:1 --service 1:a/b=t:2", "--service", "1 to 64 letters"),
        ("proxy --server h:1 --service 1=t", "--service", "target: the port is missing"),
        (&format!("{PROXY} --service 2=t:3"), "--service", "cannot be used with"),
        ("proxy --server h:1 --service 1=t:2 --service 1:a=t:3", "public port 1", "give each its own"),
        (
            "proxy --server [::1]:1 --service 1=t:2 --service 2=t:3 --format text --channels 1",
            "2 services with --format text",
            "use --format binary",
        ),
        (&format!("{PROXY} --server h:1"), "--server: h:1 is given twice", "leave one of them out"),
        (&format!("{PROXY} --server h:2#sha256:x"), "--server", "sha256: and 43 characters"),
        (&format!("{PROXY} --server h:2 --fingerprint {PIN}"), "--fingerprint", "--server HOST:PORT#sha256:"),
        (
            &format!("proxy --server [::1]:1#{PIN} --port 1 --to t:2 --plain"),
            "--plain",
            "the server has no key",
        ),
        ("proxy --server [::1]:1 --server h:1 --port 1 --to t:2 --plain", "--plain to h:1", "--insecure"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(option) && error.contains(advice), "{line}\n{error}");
        // The name of the program and of the subcommand, for the usage.
        assert!(error.contains("--help"), "{line}\n{error}");
    }
    for line in [
        &format!("{PROXY} --format text --channels 1 --verify system"),
        &format!("{PROXY} --format text --insecure"),
        &format!("{PROXY} --plain --insecure"),
        &format!("proxy --server h:1#{PIN},{PIN} --server h:2#{PIN} --format text --service 0:web=t:2"),
        &format!("proxy --server h:1 --server h:2#{PIN} --verify system --service 0=t:2 --service 0=t:3"),
        &format!("{PROXY} --fingerprint {PIN},{PIN}"),
        "proxy --server localhost:1 --port 1 --to t:2 --plain --format text",
        "proxy --server [::1]:1 --port 1 --to t:2 --plain",
        "server --plain --listen [::1]:1",
        "server --plain --insecure --text any",
        "server --text any",
    ] {
        parse(line).unwrap();
    }
    parse("server --log lifecycle=warn,underpass::proxy=debug,panic=OFF,info --text-without-token").unwrap();
}

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
fn several_services_and_servers_are_given_by_repetition() {
    let line = ["underpass", "proxy", "--server", "h:1", "--server", "[::1]:2", "--group", "web"];
    let services = ["--service", "8080=t:1", "--service", "0:admin=t:2", "--allow", "10.0.0.0/8"];
    let CliCommand::Proxy(proxy) = CliArgs::parse_from(line.into_iter().chain(services)).command else {
        panic!()
    };
    let config = proxy.config();
    let addresses: Vec<_> = config.servers.iter().map(|server| &*server.address).collect();
    assert_eq!(addresses, ["h:1", "[::1]:2"]);
    let served = config.services.iter().map(|service| format!("{} {}", service.key, service.target));
    assert_eq!(served.collect::<Vec<_>>(), ["8080:web t:1", "0:admin t:2"]);
    assert!(config.services.iter().all(|service| !service.user_networks.is_empty()));
}

#[test]
fn chunk_sizes_accept_a_unit() {
    for (text, bytes) in [("8K", 8000), ("8KiB", 8192), ("256KiB", 262_144), ("1024", 1024)] {
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
        "server --chunk 257KiB",
        "proxy --server h:1 --port 1 --to t:2 --chunk 999",
        "proxy --server h:1 --port 1 --to t:2 --congestion nagle",
        "server --congestion ",
    ] {
        assert!(parse(line).is_err(), "{line}");
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
