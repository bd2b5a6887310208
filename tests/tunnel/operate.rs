//! The commands for a running server, as a user types them: what they print, and their exit status.

use crate::{
    control_socket::{RuntimeDirectory, World},
    support::process::Signal,
};

#[tokio::test]
async fn without_a_server_the_exit_status_is_6_and_the_error_says_what_to_do() {
    let directory = RuntimeDirectory::new("none");
    let (code, output, errors) = directory.run(&["ps"]).await;
    // A server of the machine on which the tests run may be found.
    if code != 0 {
        assert_eq!((code, output.as_str()), (6, ""), "{errors}");
        assert!(
            errors.contains("no server or proxy of this user is running") || errors.contains("may not use"),
            "{errors}"
        );
    }
    let (code, _, errors) = directory.run(&["kill", "3F9A1C:1", "--control", "no-such-server"]).await;
    assert_eq!(code, 6);
    assert!(errors.contains("no server or proxy «no-such-server»"), "{errors}");
    let (code, _, errors) = directory.run(&["ps", "--control", "/nowhere/x.sock"]).await;
    assert_eq!(code, 6);
    assert!(errors.contains("cannot connect to /nowhere/x.sock: No such file"), "{errors}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_usage_error() {
    let directory = RuntimeDirectory::new("usage");
    for (args, advice) in [
        (&["kill"][..], "<KEY>"),
        (&["kill", "edge-1"], "expected the key of a stream, like 3F9A1C:1"),
        (&["pause", "3F9A1C"], "expected USER:STREAM"),
        (&["priority", "fast", "3F9A1C:1"], "background, low, normal, high or urgent"),
        (&["policy", "8080", "fair"], "least-streams"),
        (&["weight", "P1", "0"], "a number from 1 to 1000"),
        (&["ban", "10.0.0.1/8"], "the network is 10.0.0.0/8"),
        (&["ps", "--filter", "host:x"], "unknown field host:"),
        (&["ps", "--sort", "speed"], "unknown sort key «speed»"),
        (&["ps", "--watch", "0.01"], "expected a refresh interval of 0.1 to 10 seconds"),
        (&["ps", "--control", "off"], "off is for server and proxy"),
    ] {
        let (code, _, errors) = directory.run(args).await;
        assert_eq!(code, 2, "{args:?}: {errors}");
        assert!(errors.contains(advice), "{args:?}: {errors}");
    }
}

#[tokio::test]
async fn ps_lists_what_a_command_then_acts_on() {
    let mut world = World::start("cli", &[]).await;
    let run = async |args: &[&str]| world.directory.run(args).await;
    let (code, list, _) =
        run(&["ps", "--columns", "stream,state,proxy,address", "--filter", "proxy=edge-1"]).await;
    assert_eq!(code, 0);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["STREAM", "STATE", "PROXY", "USER", "ADDRESS"]);
    assert_eq!(&lines[1][1..3], ["open", "edge-1"], "{list}");
    let key = lines[1][0].to_owned();
    let (_, json, _) = run(&["ps", "--json"]).await;
    let row: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(row["key"], key.as_str());
    assert!(row["down_rate"].as_u64().unwrap() > 0, "{row}");
    for (what, sort) in
        [("users", "traffic"), ("proxies", "name"), ("services", "down"), ("channels", "sent")]
    {
        let (code, table, errors) = run(&["ps", what, "--sort", sort, "--filter", "!nothing"]).await;
        // A proxy may have several channels.
        assert!(code == 0 && table.lines().count() >= 2, "{what}: {table}{errors}");
    }
    let (_, table, _) =
        run(&["ps", "users", "--columns", "address,down,traffic", "--filter", "down>0"]).await;
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row[0] == "127.0.0.1" && row[1] != "0" && row[2] == "100%", "{table}");
    let (_, none, _) = run(&["ps", "users", "--json", "--filter", "user=192.0.2.1"]).await;
    assert_eq!(none, "");
    for (args, advice) in [
        (
            &["ps", "users", "--sort", "content"][..],
            "--sort: unknown sort key «content»; expected: age|traffic",
        ),
        (&["ps", "users", "--columns", "weight"], "unknown column «weight»; expected: user,address"),
        (&["ps", "totals", "--sort", "down"], "this list has no columns"),
    ] {
        let (code, _, errors) = run(args).await;
        assert!(code == 2 && errors.contains(advice), "{args:?}: {errors}");
    }
    for (args, expected) in [
        (&["pause", &key][..], format!("{key} paused")),
        (&["resume", "--filter", "proxy=edge-1"], format!("{key} resumed")),
        (&["priority", "low", &key], format!("{key}: priority low")),
        (&["limit", &key, "down", "1M"], format!("{key}: limits changed for 1 stream")),
        (&["limit", "edge-1", "10M"], "edge-1: limits changed for 1 stream".to_owned()),
        (&["weight", "edge-1", "2"], "edge-1: weight 2".to_owned()),
        (&["drain", "edge-1"], "edge-1 drains: 1 stream open".to_owned()),
        (&["undrain", "P1"], "P1 receives new streams again".to_owned()),
        (
            &["policy", &world.public.port().to_string(), "peak"],
            format!("{}:default: policy peak-ewma", world.public.port()),
        ),
        (&["kill", &key], format!("{key} killed")),
    ] {
        let (code, output, errors) = run(args).await;
        assert_eq!((code, output.trim()), (0, expected.as_str()), "{args:?}: {errors}");
    }
    let (code, output, errors) = run(&["kill", &key]).await;
    assert_eq!((code, output.as_str()), (5, ""), "{errors}");
    assert!(errors.contains(&format!("underpass: there is no stream {key} (any more)")), "{errors}");
    let (code, _, errors) = run(&["kill", "--filter", "proxy=other"]).await;
    assert_eq!(code, 5, "{errors}");
    for what in ["proxies", "channels", "services", "users", "totals", "state", "bans"] {
        let (code, output, errors) = run(&["ps", what]).await;
        assert!(code == 0 && (what == "bans" || !output.is_empty()), "{what}: {errors}");
    }
    let (code, table, errors) = run(&["top", "--count", "1", "--interval", "0.1"]).await;
    assert!(code == 0 && table.starts_with("underpass ") && table.contains("STREAM"), "{table}{errors}");
    let (code, output, _) = run(&["shutdown"]).await;
    assert_eq!((code, output.trim()), (0, "draining; open streams have the drain timeout to end"));
    assert_eq!(world.server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn events_are_json_lines_and_a_closed_pipe_ends_them_quietly() {
    let world = World::start("cli-events", &[]).await;
    let key = world.key().await;
    let mut follower = world.directory.underpass(&["events", "--follow"]);
    // Its subscription is as old as its first line, which some command has to cause.
    let paused = loop {
        world.directory.run(&["pause", &key]).await;
        if follower.stdout().contains("pause stream") {
            break follower.line("pause stream").await;
        }
    };
    let event: serde_json::Value = serde_json::from_str(&paused).unwrap();
    assert!(event["epoch_ms"].is_u64(), "{paused}");
    follower.signal(Signal::Int).await;
    follower.exit().await;
    // `head` ends after the first line, and the second one finds no reader.
    let program = env!("CARGO_BIN_EXE_underpass");
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", &format!("{program} ps --watch 0.1 | head -n 1")])
        .env("RUNTIME_DIRECTORY", &world.directory.0);
    let mut shell = crate::support::process::Process::spawn(command);
    assert_eq!(shell.exit().await.code(), Some(0), "{}", shell.output());
    assert_eq!(shell.stderr(), "");
    world.server.signal(Signal::Term).await;
}
