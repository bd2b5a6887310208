//! Which options a running server takes over.

use super::*;
use crate::{config::ServerConfig, ids::UserIdKey};

/// Another value than the default for each option; none for a switch. An option that needs another one has that in
/// front.
const OTHER_VALUES: [(&str, &str); 50] = [
    ("listen", "127.0.0.1:7001"),
    ("bind", "127.0.0.1"),
    ("ports", "8000-8999"),
    ("token", "vK8dR2xQ9mWz4LpT7cYb"),
    ("token-file", "token"),
    ("tokens", "tokens.toml"),
    ("cert", "cert.pem"),
    ("key", "key.pem"),
    ("plain", ""),
    ("insecure", ""),
    ("state-dir", "state"),
    ("policy", "weighted"),
    ("text", "off"),
    ("text-without-token", ""),
    ("wait", "6"),
    ("grace", "31"),
    ("drain", "9"),
    ("reuse-port", ""),
    ("successor", "h:1"),
    ("window", "512KiB"),
    ("memory", "32MiB"),
    ("chunk", "8K"),
    ("stripe", "off"),
    ("congestion", "system"),
    ("allow", "10.0.0.0/8"),
    ("deny", "10.0.0.0/8"),
    ("trust-proxy-protocol", "10.0.0.5"),
    ("max-streams", "10"),
    ("max-streams-per-address", "10"),
    ("max-streams-per-service", "10"),
    ("max-streams-per-proxy", "10"),
    ("max-channels-per-address", "10"),
    ("max-connections-per-second", "10"),
    ("idle-timeout", "60"),
    ("no-tui", ""),
    ("no-sniff", ""),
    ("theme", "light"),
    ("refresh", "1"),
    ("read-only", ""),
    ("workers", "3"),
    ("no-busy-poll", ""),
    ("log", "debug"),
    ("log-format", "json"),
    ("record", "records"),
    ("record-days", "3"),
    ("record-size", "2GiB"),
    ("control", "off"),
    ("control-group", "root"),
    ("control-readers", "root"),
    ("metrics", "127.0.0.1:9100"),
];

/// Returns the configuration that a command line gives.
fn config(words: &[String]) -> (ServerConfig, ResolvedOptions) {
    let line =
        ["underpass", "server"].map(OsString::from).into_iter().chain(words.iter().map(OsString::from));
    let Invocation { args, options } = CliArgs::parse_line(line.collect(), Surroundings::NONE).unwrap();
    let CliCommand::Server(args) = args.command else { panic!() };
    (ServerConfig { user_id_key: UserIdKey::new([0; 32]), ..args.config() }, options)
}

/// An option that is added is taken over by a running server, or reported as one that needs a restart.
#[test]
fn exactly_the_live_options_change_a_running_server() {
    let (_, all) = config(&[]);
    for option in all.iter() {
        let key = option.key();
        let Some((_, value)) = OTHER_VALUES.iter().find(|(known, _)| *known == key) else {
            panic!("another value for {key} is missing in OTHER_VALUES");
        };
        let before = match key {
            "key" => vec!["--cert=c".to_owned()],
            "plain" => vec!["--insecure".to_owned()],
            _ => Vec::new(),
        };
        let word = if value.is_empty() { format!("--{key}") } else { format!("--{key}={value}") };
        let (running, started) = config(&before);
        let (new, options) = config(&[before, vec![word]].concat());
        assert_eq!(options.differences(&started).len(), 1, "{key} has its default value in OTHER_VALUES");
        let changed = format!("{:?}", running.with_changes_of(&new)) != format!("{running:?}");
        // The filter of the log is not part of the configuration.
        let is_live = LIVE.contains(&key) && key != "log";
        assert_eq!(changed, is_live, "{key}: {} in LIVE", if changed { "missing" } else { "wrong" });
    }
    assert!(LIVE.iter().all(|key| all.find(key).is_some()));
}

#[test]
fn a_report_names_what_has_changed() {
    let report = ReloadReport {
        applied: vec!["policy = \"weighted\"".to_owned(), "[[proxy]]".to_owned()],
        ..ReloadReport::default()
    };
    assert_eq!(report.to_string(), "changed: policy = \"weighted\", [[proxy]]");
    assert_eq!(ReloadReport::default().to_string(), "nothing to change while it runs");
    let report = ReloadReport { reads_files: true, ..report };
    assert!(
        report.full().ends_with("; certificate and tokens are read again, see the log"),
        "{}",
        report.full()
    );
}

#[test]
fn what_needs_a_restart_is_named_at_each_reload() {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (_, started) = config(&words(&["--max-streams=10", "--policy=weighted"]));
    let (_, raised) = config(&words(&["--max-streams=20", "--policy=peak-ewma"]));
    let mut source = Source { line: Vec::new(), current: started.clone(), started };
    let until_restart = |key: &str| (key == MAX_STREAMS).then(|| " (until then 10)".to_owned());
    let first = source.compare(&raised, until_restart);
    assert_eq!(first.applied, ["policy = \"peak-ewma\""]);
    assert_eq!(first.needs_restart, ["max-streams = 20 (until then 10)"]);
    source.current = raised.clone();
    let second = source.compare(&raised, until_restart);
    assert_eq!(second.applied, [""; 0]);
    assert_eq!(second.needs_restart, first.needs_restart);
}
