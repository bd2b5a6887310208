//! Options of the command line, the environment and the configuration file: which one wins, and what is refused.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::*;
use crate::{config::RawValue, ids::Policy};

/// A token that cannot be guessed.
const TOKEN: &str = "vK8dR2xQ9mWz4LpT7cYb";

/// A configuration file of one test, which is removed when it is dropped.
struct TestFile(PathBuf);

impl TestFile {
    /// Writes a file that its owner alone may read.
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("underpass-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let file = Self(path);
        file.set_mode(0o600);
        file
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Parses the line `underpass` with blanks between its words and this file.
    fn parse_with(&self, line: &str, variables: &[(&str, &str)]) -> Result<Invocation, String> {
        parse(&format!("{line} --config {}", self.0.display()), variables)
    }

    fn parse(&self, line: &str) -> Result<Invocation, String> {
        self.parse_with(line, &[])
    }

    fn server(&self, line: &str) -> ServerArgs {
        let CliCommand::Server(args) = self.parse(line).unwrap().args.command else { panic!() };
        *args
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Parses a line with blanks between its words, in an environment of these variables alone.
fn parse(line: &str, variables: &[(&str, &str)]) -> Result<Invocation, String> {
    let words = ["underpass"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let surroundings = Surroundings { variable: &variable, ..Surroundings::NONE };
    CliArgs::parse_line(words, surroundings).map_err(|error| error.to_string())
}

/// Returns where the value of an option is from.
fn origin(invocation: &Invocation, key: &str) -> String {
    let text = invocation.options.to_string();
    let line = text.lines().find(|line| line.trim_start_matches('#').starts_with(&format!("{key} =")));
    line.unwrap_or_else(|| panic!("{key} in {text}")).rsplit_once("  # ").unwrap().1.to_owned()
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = TestFile::new("log = \"warn\"\npolicy = \"weighted\"\nallow = [\"10.0.0.0/8\", \"::1\"]\n");
    let log = |invocation: &Invocation| match &invocation.args.command {
        CliCommand::Server(args) => args.log.log.clone(),
        _ => panic!(),
    };
    let variable = [("UNDERPASS_LOG", "debug")];
    let of_file = file.parse("server").unwrap();
    assert_eq!(log(&of_file), "warn");
    assert_eq!(origin(&of_file, "log"), format!("{}, line 1", file.0.display()));
    let of_environment = file.parse_with("server", &variable).unwrap();
    assert_eq!(log(&of_environment), "debug");
    assert_eq!(origin(&of_environment, "log"), "environment variable UNDERPASS_LOG");
    let of_line = file.parse_with("server --log error --policy peak-ewma", &variable).unwrap();
    assert_eq!(log(&of_line), "error");
    assert_eq!(origin(&of_line, "log"), "command line");
    assert_eq!(origin(&of_line, "listen"), "default");
    assert_eq!(log(&parse("server", &[]).unwrap()), "info");
    let CliCommand::Server(args) = of_line.args.command else { panic!() };
    assert_eq!(args.config().default_policy, Policy::PeakEwma);
    assert_eq!(file.server("server").config().default_policy, Policy::Weighted);
    // A list of the command line replaces that of the file.
    let networks = |line: &str| format!("{:?}", file.server(line).config().user_networks);
    assert!(networks("server").contains("10.0.0.0") && networks("server").contains("::1"));
    let replaced = networks("server --allow 192.0.2.0/24");
    assert!(replaced.contains("192.0.2.0") && !replaced.contains("10.0.0.0"), "{replaced}");
}

#[test]
fn an_option_gives_way_to_one_above_that_excludes_it() {
    let file =
        TestFile::new(&format!("token = \"{TOKEN}\"\ncert = \"c.pem\"\nkey = \"k.pem\"\nno-tui = true\n"));
    let CliCommand::Server(args) =
        file.parse("server --token-file t --plain --listen 127.0.0.1:1").unwrap().args.command
    else {
        panic!()
    };
    assert!(args.screen.no_tui);
    assert!(args.tls.given_certificate().unwrap().is_none());
    assert!(format!("{:?}", args.token).contains("token: None"));
    // The key of one certificate is not that of another.
    assert_eq!(origin(&file.parse("server --cert o.pem").unwrap(), "key"), "default: in the file of --cert");
    assert!(!file.server("server --no-tui=false").screen.no_tui);
    assert!(file.server("server --no-tui=true").screen.no_tui);
    // Of several the last one applies.
    for (line, is_on) in [
        ("--no-tui --no-tui=false", false),
        ("--no-tui=false --no-tui", true),
        ("--no-tui=false --no-tui=true --listen 127.0.0.1:1", true),
        ("--no-tui --no-tui", true),
    ] {
        assert_eq!(file.server(&format!("server {line}")).screen.no_tui, is_on, "{line}");
    }
    // The same between the command line and the environment.
    let invocation = parse("server --token-file t", &[("UNDERPASS_TOKEN", TOKEN)]).unwrap();
    assert_eq!(origin(&invocation, "token-file"), "command line");
    let off = TestFile::new("plain = false\ncert = \"c.pem\"\n");
    off.parse("server").unwrap();
    // In one layer there is no order.
    let both = TestFile::new("plain = true\ncert = \"c.pem\"\n").parse("server").unwrap_err();
    assert!(both.contains("cannot be used with") && both.contains(", line 2"), "{both}");
}

/// The file may be one that the command line does not name.
#[test]
fn a_wrong_file_hides_nothing_that_is_wrong_on_the_command_line() {
    for (text, of_file) in [("ports = \n", "line 1: "), ("polcy = \"weighted\"\n", "did you mean «policy»?")]
    {
        let file = TestFile::new(text);
        for (line, variable, expected) in [
            ("--polici x", None, "unexpected argument '--polici'"),
            ("--listen x", None, "invalid value 'x' for '--listen"),
            ("--no-tui", Some(("UNDERPASS_LOG", "loud")), "invalid value 'loud' for '--log"),
        ] {
            // Also where the file is named behind a word that is not understood.
            let name = file.0.display();
            let lines = [
                format!("server --config {name} {line}"),
                format!("server {line} --config {name}"),
                format!("server {line} --config={name}"),
            ];
            for line in lines {
                let error = parse(&line, variable.as_slice()).unwrap_err();
                let lines: Vec<_> = error.lines().collect();
                assert!(
                    lines.len() == 2 && lines[0].starts_with(expected) && lines[1].contains(of_file),
                    "{line}\n{error}"
                );
            }
        }
        // What the file may say is not missing on the command line.
        let error = file.parse("proxy").unwrap_err();
        assert!(error.lines().all(|line| line.starts_with(&file.0.display().to_string())), "{error}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let file = TestFile::new("tokens = \"tokens.toml\"\nstate-dir = \"/state\"\n");
    let args = file.server("server");
    assert_eq!(args.tokens.as_deref(), Some(&*file.0.with_file_name("tokens.toml")));
    assert_eq!(args.state_dir.as_deref(), Some(Path::new("/state")));
    assert_eq!(file.server("server --tokens x").tokens.as_deref(), Some(Path::new("x")));
}

#[test]
fn every_mistake_of_a_file_is_named_with_line_and_key() {
    let file = TestFile::new(
        "listen = 7000\n\npolcy = \"weighted\"\npolicy = \"fair\"\nplain = \"yes\"\nwait = [1]\nstripe = true\n\
         zzzzzz = 1\nports = \"9-8\"\nallow = {}\ndeny = []\n[[proxy]]\nnam = 1\n[server]\n",
    );
    let error = file.parse("server").unwrap_err();
    let name = file.0.display();
    let expected = [
        "line 1: listen: the address is missing: write 0.0.0.0:7000",
        "line 3: there is no setting «polcy»; did you mean «policy»?",
        "line 4: policy: expected round-robin, weighted, least-streams, peak-ewma",
        "line 5: plain: expected true or false, without quotes",
        "line 6: wait: expected one value, not a list",
        "line 7: stripe: expected in quotes: on, off",
        "line 8: there is no setting «zzzzzz»",
        "line 9: ports: the first port is above the last one: write 8-9",
        "line 10: allow: expected a text or a number, not a table",
        "line 11: deny: the list is empty: leave the key out",
        "line 12: entry 1: name: it is missing",
        "line 12: entry 1: token: it is missing",
        "line 13: entry 1: there is no setting «nam»; did you mean «name»?",
        "line 14: there is no setting «server»",
    ];
    let lines: Vec<_> = error.lines().collect();
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("{name}: {expected}")), "{expected}\n{error}");
    }
    assert_eq!(lines.len(), expected.len(), "{error}");
    let error = TestFile::new("token = \"secret\"\n").parse("server").unwrap_err();
    assert!(error.contains("line 1: token: the token is too short") && !error.contains("secret"), "{error}");
    let error = TestFile::new("plain = true\n").parse("server").unwrap_err();
    assert!(error.contains("--plain with --listen") && error.contains("--plain is set in"), "{error}");
    let error = TestFile::new("port = 1\n").parse("proxy").unwrap_err();
    assert!(error.contains("--server <HOST:PORT") && error.contains("does not have them either"), "{error}");
    let error = parse("server --config /nonexistent/file", &[]).unwrap_err();
    assert!(error.starts_with("/nonexistent/file: cannot read the configuration: No such file"), "{error}");
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let (open, secret) =
        (TestFile::new("policy = \"weighted\"\n"), TestFile::new(&format!("token = \"{TOKEN}\"\n")));
    for (mode, is_open_allowed, is_secret_allowed) in
        [(0o600, true, true), (0o644, true, true), (0o664, false, false), (0o646, false, false)]
    {
        for (file, is_allowed) in [(&open, is_open_allowed), (&secret, is_secret_allowed)] {
            file.set_mode(mode);
            let result = file.parse("server");
            assert_eq!(result.is_ok(), is_allowed, "{mode:o}: {:?}", result.err());
            if let Err(error) = result {
                assert!(error.contains("other users can change it") && error.contains("chmod"), "{error}");
            }
        }
    }
    let warning = |file: &TestFile, mode| {
        file.set_mode(mode);
        file.parse("server").unwrap().options.warning().map(str::to_owned)
    };
    assert!(warning(&secret, 0o604).unwrap().contains("all users of this machine can read the token"));
    assert_eq!((warning(&secret, 0o640), warning(&open, 0o644)), (None, None));
}

#[test]
fn a_server_file_has_entries_of_proxies() {
    let text = format!("no-tui = true\n[[proxy]]\nname = \"alice\"\ntoken = \"{TOKEN}\"\nports = [8080]\n");
    let file = TestFile::new(&text);
    let entries = file.server("server").entries;
    assert_eq!(entries.iter().map(|entry| entry.name()).collect::<Vec<_>>(), ["alice"]);
    assert!(!file.server("server --tokens x").has_entries());
    let error = TestFile::new(&format!("tokens = \"x\"\n{text}")).parse("server").unwrap_err();
    assert!(error.contains("--tokens") && error.contains("[[proxy]]"), "{error}");
    let shown = file.parse("server").unwrap().options.to_string();
    assert!(shown.contains("[[proxy]]  # ") && shown.contains("ports = [8080]"), "{shown}");
    assert!(shown.contains("token = \"***\"") && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn a_proxy_file_has_tables_of_services() {
    let common = "server = [\"a:1\", \"b:2\"]\ndeny = [\"192.0.2.0/24\"]\nallow = [\"10.0.0.0/8\"]\n";
    let tables = "[[service]]\npublic = 8080\nto = \"127.0.0.1:80\"\n[[service]]\npublic = \"2222:admin\"\nto = \"t:22\"\n\
                  allow = [\"10.1.0.0/16\", \"::1\"]\ndeny = \"10.1.1.0/24\"\nproxy-protocol = \"v2\"\n";
    let file = TestFile::new(&format!("{common}{tables}"));
    let config = |line: &str| match file.parse(line).unwrap().args.command {
        CliCommand::Proxy(args) => args.config(),
        _ => panic!(),
    };
    let (web, shell) = match &config("proxy").services[..] {
        [web, shell] => (web.clone(), shell.clone()),
        services => panic!("{services:?}"),
    };
    assert_eq!(config("proxy").servers.len(), 2);
    assert_eq!((web.key.to_string(), &web.target[..]), ("8080:default".to_owned(), "127.0.0.1:80"));
    assert_eq!(web.user_networks, "allow=10.0.0.0/8 deny=192.0.2.0/24".parse().unwrap());
    assert_eq!((shell.key.to_string(), &shell.target[..]), ("2222:admin".to_owned(), "t:22"));
    let expected = "allow=10.1.0.0/16 allow=::1 deny=192.0.2.0/24 deny=10.1.1.0/24";
    assert_eq!(shell.user_networks, expected.parse().unwrap());
    assert!(web.proxy_protocol.is_none() && shell.proxy_protocol.is_some());
    // Those of the command line take the place of all.
    assert_eq!(config("proxy --service 1=x:1").services.len(), 1);
    assert_eq!(config("proxy --port 1 --to x:1").services.len(), 1);

    let wrong = "[[service]]\npublc = 8080\nto = \"127.0.0.1\"\n[[service]]\npublic = 0\nto = 80\n[[service]]\npublic = 1\n\
                 to = \"t:1\"\nallow = [\"here\"]\n";
    let error = TestFile::new(&format!("{common}{wrong}")).parse("proxy").unwrap_err();
    for expected in [
        "line 4: service 1: public: it is missing: write public = 8080 or \"8080:group\"",
        "line 5: service 1: there is no setting «publc»; did you mean «public»?",
        "line 6: service 1: to: the port is missing",
        "line 9: service 2: to: the host is missing: write 127.0.0.1:80 for this machine",
        "line 13: service 3: allow: expected a network such as",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let error =
        TestFile::new(&format!("{common}format = \"text\"\n{tables}")).parse("proxy --insecure").unwrap_err();
    assert!(error.contains("--format text does not carry the user's address"), "{error}");
}

#[test]
fn a_mistake_says_where_a_key_belongs() {
    let service = "[[service]]\npublic = 8080\nto = \"t:1\"\n";
    let hash = format!("token-hash = \"sha256:{}\"\n", "0".repeat(64));
    for (line, text, expected) in [
        (
            "server",
            format!("[[proxy]]\nname = \"a\"\n{hash}policy = \"weighted\"\n"),
            "line 4: entry 1 («a»): there is no setting «policy»; «policy» is a key of the whole file: write it above the first \
             [[proxy]]",
        ),
        (
            "server",
            "rate = \"1M\"\n".to_owned(),
            "line 1: there is no setting «rate»; «rate» is a key of [[proxy]]: write it below such a line",
        ),
        (
            "server",
            "[server]\nwait = 1\n".to_owned(),
            "line 1: there is no setting «server»; the only tables are [[proxy]]: write the keys of [server] without a table",
        ),
        (
            "proxy --server h:1",
            format!("{service}max-streams = 5\nport = 1\n"),
            "line 4: service 1: there is no setting «max-streams»; «max-streams» is a key of the whole file",
        ),
        (
            "proxy --server h:1",
            format!("{service}remote-port = 1\n"),
            "line 4: service 1: there is no setting «remote-port»; did you mean «public»?",
        ),
        (
            "proxy --server h:1",
            format!("{service}\n{service}"),
            "line 6: service 2: public: service 1 requests port 8080, too (line 2): give each its own, or 0 for any free one",
        ),
        (
            "proxy --server h:1",
            "[service]\npublic = 8080\nto = \"t:1\"\n".to_owned(),
            "line 1: service: write a line [[service]], in two pairs of brackets, above the keys of each",
        ),
        (
            "proxy --service 1=t:1",
            "server = [\"h:1\", \"h:1\"]\n".to_owned(),
            "line 1: server: h:1 is given twice: leave one of them out",
        ),
    ] {
        let file = TestFile::new(&text);
        let error = file.parse(line).unwrap_err();
        assert!(error.starts_with(&format!("{}: {expected}", file.0.display())), "{expected}\n{error}");
    }
}

#[test]
fn a_proxy_file_has_no_entries_of_proxies_whatever_they_contain() {
    let error =
        TestFile::new("[[proxy]]\nname = \"\"\n").parse("proxy --server h:1 --service 0=t:2").unwrap_err();
    assert!(error.contains("line 1: there is no setting «proxy»"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn secrets_are_masked_and_options_without_a_value_have_their_default() {
    let shown = parse("server", &[("UNDERPASS_TOKEN", TOKEN)]).unwrap().options.to_string();
    assert!(!shown.contains(TOKEN) && shown.contains("token = \"***\""), "{shown}");
    let line = |key: &str| shown.lines().find(|line| line.contains(&format!("{key} ="))).unwrap().to_owned();
    assert!(line("listen").starts_with("listen = \"0.0.0.0:7000\" "), "{shown}");
    assert!(line("wait").starts_with("wait = 5 ") && line("plain").starts_with("plain = false "), "{shown}");
    let expected = "# default: half of --max-streams";
    assert!(line("#max-streams-per-address").ends_with(expected), "{shown}");
    // What is shown can be used as a file, whatever a value looks like.
    let name = parse("proxy --server h:1 --service 1=t:1 --name infinity --group 007", &[]).unwrap();
    let shown_proxy = name.options.to_string();
    assert!(
        shown_proxy.contains("name = \"infinity\"") && shown_proxy.contains("group = \"007\""),
        "{shown_proxy}"
    );
    let again = TestFile::new(&shown_proxy).parse("proxy").unwrap();
    assert!(again.options.differences(&name.options).is_empty());
    let masked = shown.replace("\"***\"", &format!("\"{TOKEN}\""));
    let again = TestFile::new(&masked).parse("server").unwrap();
    let given = parse("server", &[("UNDERPASS_TOKEN", TOKEN)]).unwrap();
    let differences = again.options.differences(&given.options);
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn default_files_are_those_of_the_user_and_of_the_system() {
    let places = |variables: &[(&str, &str)], role| {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Surroundings { variable: &variable, has_default_files: true }.default_files(role)
    };
    let expected = ["/x/underpass/server.toml", "/etc/underpass/server.toml"].map(PathBuf::from);
    assert_eq!(places(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")], Role::Server), expected);
    let expected = ["/h/.config/underpass/proxy.toml", "/etc/underpass/proxy.toml"].map(PathBuf::from);
    assert_eq!(places(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")], Role::Proxy), expected);
    let file = TestFile::new("policy = \"weighted\"\n");
    let find = |places: &[PathBuf]| ConfigFile::find(None, places, |_| false).unwrap().map(|file| file.path);
    assert_eq!(find(&["/nonexistent/a".into(), file.0.clone()]), Some(file.0.clone()));
    assert_eq!(find(&["/nonexistent/a".into()]), None);
}

/// The examples have every option of their subcommand with its default value, and nothing else. An option that is added
/// has to be added there, too.
#[test]
fn the_examples_have_every_option_with_its_default() {
    for (role, text, line) in [
        (Role::Server, include_str!("../../../../assets/examples/server.toml"), "server"),
        (
            Role::Proxy,
            include_str!("../../../../assets/examples/proxy.toml"),
            "proxy --server example.org:7000 --port 8080 --to 127.0.0.1:80",
        ),
    ] {
        // As it is, it is valid and changes nothing.
        let defaults = parse(line, &[]).unwrap();
        let given = TestFile::new(text).parse(role.as_str()).unwrap();
        let differences = given.options.differences(&defaults.options);
        assert!(differences.is_empty(), "{role:?}: {differences:?}");
        // With all keys.
        let is_key = |line: &str| {
            let name = line.split(" = ").next().unwrap_or_default();
            line.starts_with("[[")
                || line.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        let uncommented: Vec<_> = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|line| is_key(line)).unwrap_or(line))
            .collect();
        let full = CliArgs::command();
        let command = full.find_subcommand(role.as_str()).unwrap();
        let file = TestFile::new(&uncommented.join("\n"));
        let file = ConfigFile::find(Some(&file.0), &[], |_| true).unwrap().unwrap();
        let plain = without_environment();
        let given = plain.clone().ignore_errors(true).get_matches_from(["underpass", role.as_str()]);
        let given = given.subcommand_matches(role.as_str()).unwrap();
        let (layers, mistakes) =
            Layers::collect(command, (given, &[]), Surroundings::NONE, Some((&file, role)));
        assert_eq!(mistakes, [], "{role:?}");
        assert_eq!(layers.wrong_values(plain.find_subcommand(role.as_str()).unwrap()), [], "{role:?}");
        for (_, key) in keys(command) {
            let Some(raw) = file.table.get(key) else { panic!("{key} is missing in {}.toml", role.as_str()) };
            let option = defaults.options.find(key).unwrap();
            if option.origin == Origin::Default && !option.values.is_empty() {
                let values = match &raw.value {
                    RawValue::Switch(is_on) => vec![is_on.to_string()],
                    RawValue::Text(text) => vec![text.clone()],
                    RawValue::List(texts) => texts.clone(),
                    value => panic!("{value:?}"),
                };
                assert_eq!(values, option.values, "{key} in {}.toml", role.as_str());
            }
        }
    }
}
