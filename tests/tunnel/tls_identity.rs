//! How server and proxy recognise each other over TLS, as a user sees it: certificates, fingerprints, clear text, and
//! what is said about each thing that is wrong.

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::LazyLock, time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use underpass::{cli::demo::DemoFile, tls::Identity};

use crate::support::{
    client::{Fetched, download, fetch},
    preload,
    process::{Process, Signal, TOKEN},
    relay::{Relay, Wire},
    soon, target,
};

/// Arguments of a server on free loopback ports.
const SERVER: [&str; 8] =
    ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];

/// Seconds of 51 years.
const YEARS: i64 = 51 * 31_557_600;

/// A library with a clock that is wrong.
static CLOCK: LazyLock<String> = LazyLock::new(|| preload::compile("support/clock.c"));

/// A directory of one test, empty at its begin and removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}"));
        _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns the path of a file in it.
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes certificate and key as certbot names them.
    fn write_pair(&self, pair: &Pair) {
        self.write("fullchain.pem", &pair.certificate);
        self.write("privkey.pem", &pair.key);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    /// Returns the fingerprint of the key.
    fn fingerprint(&self) -> String {
        Identity::from_pem(&self.certificate, &self.key).unwrap().fingerprint().to_string()
    }
}

/// Returns a certificate authority with this name.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns a certificate that `authority` issued for `name`, valid from the begin of one year to that of another.
fn issued(authority: &CertifiedIssuer<'_, KeyPair>, name: &str, (from, to): (i32, i32)) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    Pair { certificate: params.signed_by(&key, authority).unwrap().pem(), key: key.serialize_pem() }
}

/// Starts a server with more arguments. Returns it with the address of its tunnel port.
async fn server(more: &[&str]) -> (Process, SocketAddr) {
    let mut server = Process::underpass(&[&SERVER[..], more].concat());
    let addr = server.listens().await;
    (server, addr)
}

/// Starts a server that has no controlling terminal, as a service has none.
async fn service(more: &[&str]) -> (Process, SocketAddr) {
    let mut server = Process::service(&[&SERVER[..], more].concat());
    let addr = server.listens().await;
    (server, addr)
}

/// Starts a proxy of `server`, `HOST:PORT`, with more arguments.
fn proxy(server: &str, to: SocketAddr, more: &[&str]) -> Process {
    let to = to.to_string();
    let args = ["proxy", "--server", server, "--port", "0", "--to", &to, "--token", TOKEN];
    Process::underpass(&[&args[..], more].concat())
}

/// Waits until a proxy serves. Returns the public address.
async fn serves(proxy: &mut Process) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), proxy.serves().await.port)
}

/// Returns the fingerprint that a server has logged.
async fn fingerprint(server: &mut Process) -> String {
    let line = server.line(", fingerprint sha256:").await;
    line.split(", fingerprint ").nth(1).unwrap().to_owned()
}

/// Asserts that a proxy ends with status 3 and one line that contains all of `expected`.
async fn is_refused(mut proxy: Process, expected: &[&str]) {
    assert_eq!(proxy.exit().await.code(), Some(3), "{}", proxy.output());
    let errors: Vec<_> =
        proxy.stderr().lines().filter(|line| line.starts_with("underpass: ")).map(str::to_owned).collect();
    assert_eq!(errors.len(), 1, "{}", proxy.output());
    for expected in expected {
        assert!(errors[0].contains(expected), "{}", errors[0]);
    }
    println!("{}", errors[0]);
}

#[tokio::test]
async fn the_join_command_pins_the_key_that_the_server_keeps() {
    let state = Directory::new("join");
    let origin = target::origin(None).await;
    let args = [
        "server",
        "--listen",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--no-tui",
        "--state-dir",
        &state.path(""),
    ];
    let mut pinned = Vec::new();
    for _ in 0..2 {
        let mut server = Process::underpass(&args);
        server.listens().await;
        let line = server.line("underpass proxy --server").await;
        let words: Vec<_> = line.split_whitespace().skip(1).take_while(|word| *word != "--port").collect();
        let to = origin.addr.to_string();
        let mut proxy =
            Process::underpass_with(&[&words[..], &["--port", "0", "--to", &to]].concat(), |command| {
                command.current_dir(&state.0);
            });
        let public = serves(&mut proxy).await;
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        let logged = fingerprint(&mut server).await;
        assert!(line.contains(&format!(" --fingerprint {logged} ")), "{line}");
        pinned.push(logged);
    }
    assert_eq!(pinned[0], pinned[1], "another key after a restart");
    let mode = |name: &str| fs::metadata(state.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("tls.pem"), mode("token")), (0o600, 0o600));
}

/// The man in the middle has another certificate, and not the token.
#[tokio::test]
async fn another_certificate_is_refused_with_both_fingerprints_or_by_the_proof_of_the_token() {
    let (mut server, addr) = server(&[]).await;
    let actual = fingerprint(&mut server).await;
    let other = format!("sha256:{}", "A".repeat(43));
    let refused = proxy(&addr.to_string(), addr, &["--fingerprint", &other]);
    is_refused(
        refused,
        &[&format!("has the fingerprint {actual}, and not {other}"), "copy the new fingerprint"],
    )
    .await;
    server.line("the peer does not trust the certificate").await;
    // Both keys, as during a change of the key.
    let mut both = proxy(&addr.to_string(), addr, &["--fingerprint", &format!("{other},{actual}")]);
    serves(&mut both).await;
    // Without a fingerprint: this server's key is accepted, but it does not know the proxy's token.
    let args = [
        "proxy",
        "--server",
        &addr.to_string(),
        "--port",
        "0",
        "--to",
        "127.0.0.1:9",
        "--token",
        "Qm4Wx7Rk2Tz9Lb5Vd8Jc",
    ];
    is_refused(Process::underpass(&args), &["wrong token"]).await;
    is_refused(Process::underpass(&[&args[..], &["--fingerprint", &actual]].concat()), &["wrong token"])
        .await;
}

#[tokio::test]
async fn a_certificate_is_verified_with_the_host_name_and_the_dates() {
    let (ours, directory) = (authority("ours"), Directory::new("verify"));
    directory.write("ca.pem", &ours.pem());
    let ca = directory.path("ca.pem");
    for (name, years, to, expected, is_permanent) in [
        ("localhost", (2001, 2901), "localhost", "serving ", false),
        (
            "localhost",
            (2001, 2901),
            "127.0.0.1",
            "is for localhost, and not for 127.0.0.1: write a name of",
            true,
        ),
        (
            "localhost",
            (2001, 2002),
            "localhost",
            "expired on Jan  1 00:00:00 2002 +00:00, and the clock of",
            false,
        ),
        (
            "localhost",
            (2901, 2902),
            "localhost",
            "is not valid before Jan  1 00:00:00 2901 +00:00, and the",
            false,
        ),
    ] {
        directory.write_pair(&issued(&ours, name, years));
        let (mut server, addr) = server(&["--cert", &directory.path("")]).await;
        if years != (2001, 2901) {
            let line = server.line("the TLS certificate in ").await;
            assert!(line.contains("the clock of this machine says"), "{line}");
        }
        let mut proxy = proxy(&format!("{to}:{}", addr.port()), addr, &["--ca", &ca]);
        match is_permanent {
            true => is_refused(proxy, &[expected, "--fingerprint"]).await,
            // The clock may be set, and the certificate renewed.
            false => _ = proxy.line(expected).await,
        }
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_are_those_that_it_names() {
    let (ours, directory) = (authority("ours"), Directory::new("system"));
    directory.write("roots.pem", &ours.pem());
    directory.write("others.pem", &authority("others").pem());
    directory.write_pair(&issued(&ours, "localhost", (2001, 2901)));
    let trust = |command: &mut Command, roots: &str| {
        command.env("SSL_CERT_FILE", directory.path(roots)).env_remove("SSL_CERT_DIR");
    };
    let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--state-dir"];
    let (state, cert) = (directory.path("state"), directory.path(""));
    let args = [&args[..], &[&state, "--cert", &cert]].concat();
    let mut server = Process::underpass_with(&args, |command| trust(command, "roots.pem"));
    let addr = server.listens().await;
    // The server's own authorities have issued its certificate: proxies verify the name, and the key may change.
    let join = server.line("underpass proxy --server").await;
    assert!(
        join.contains(&format!("--server localhost:{} --verify system --token-file", addr.port())),
        "{join}"
    );
    let words: Vec<_> = join.split_whitespace().skip(1).take_while(|word| *word != "--port").collect();
    let args = [&words[..], &["--port", "0", "--to", "127.0.0.1:9"]].concat();
    let run = |roots: &str| {
        Process::underpass_with(&args, |command| {
            trust(command, roots);
            command.current_dir(&state);
        })
    };
    serves(&mut run("roots.pem")).await;
    is_refused(run("others.pem"), &["was not issued by an authority that this proxy trusts", "--ca"]).await;
    let mut none = run("none.pem");
    assert_eq!(none.exit().await.code(), Some(1), "{}", none.output());
    assert!(none.stderr().contains("--verify system"), "{}", none.output());
}

/// A machine without a battery starts in 1970, and its owner may be years ahead.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_clock_that_is_wrong_by_years_matters_only_to_who_verifies_dates() {
    let directory = Directory::new("clock");
    let ours = authority("ours");
    directory.write("ca.pem", &ours.pem());
    directory.write_pair(&issued(&ours, "localhost", (2020, 2060)));
    let (_server, addr) = server(&["--cert", &directory.path("")]).await;
    let pin = Identity::from_pem(
        &fs::read_to_string(directory.path("fullchain.pem")).unwrap(),
        &fs::read_to_string(directory.path("privkey.pem")).unwrap(),
    );
    let pin = pin.unwrap().fingerprint().to_string();
    let address = format!("localhost:{}", addr.port());
    for (offset, expected) in [(-YEARS, "is not valid before Jan  1"), (YEARS, "expired on Jan  1")] {
        let wrong = |more: &[&str]| {
            let args =
                ["proxy", "--server", &address, "--port", "0", "--to", "127.0.0.1:9", "--token", TOKEN];
            Process::underpass_with(&[&args[..], more].concat(), |command| {
                command.env("LD_PRELOAD", &*CLOCK).env("CLOCK_OFFSET", offset.to_string());
            })
        };
        serves(&mut wrong(&[])).await;
        serves(&mut wrong(&["--fingerprint", &pin])).await;
        // It does not end: the clock may be set meanwhile.
        wrong(&["--ca", &directory.path("ca.pem")]).line(expected).await;
    }
}

#[tokio::test]
async fn new_connections_have_the_new_certificate_and_downloads_do_not_notice() {
    let directory = Directory::new("rotation");
    let ours = authority("ours");
    let (old, new) = (issued(&ours, "localhost", (2001, 2901)), issued(&ours, "localhost", (2001, 2902)));
    directory.write_pair(&old);
    let (mut server, addr) = service(&["--cert", &directory.path("")]).await;
    let address = addr.to_string();
    let origin = target::origin(2_000_000).await;
    let relay = Relay::to(addr).await;
    let mut pinned = proxy(&relay.addr.to_string(), origin.addr, &["--fingerprint", &old.fingerprint()]);
    let public = serves(&mut pinned).await;
    let first = relay.connection(0).await;
    relay.connection(1).await;
    let file = DemoFile { seed: 5, size: 1_000_000 };
    let downloads: Vec<_> = (0..8).map(|_| download(public, file)).collect();
    origin.when_open(8, Duration::from_secs(30)).await;
    // Half of a pair is not used, and neither does the signal end a server without a terminal.
    directory.write("fullchain.pem", &new.certificate);
    server.signal(Signal::Hup).await;
    let line = server.line("the previous TLS certificate stays in use").await;
    assert!(line.contains("privkey.pem: the private key does not belong"), "{line}");
    directory.write("privkey.pem", &new.key);
    server.signal(Signal::Hup).await;
    let line = server.line("read another TLS key").await;
    assert!(line.contains(&old.fingerprint()) && line.contains(&new.fingerprint()), "{line}");
    is_refused(proxy(&address, addr, &["--fingerprint", &old.fingerprint()]), &["has the fingerprint"]).await;
    serves(&mut proxy(&address, addr, &["--fingerprint", &new.fingerprint()])).await;
    // A channel that is lost cannot be replaced, which the other one does not notice.
    first.set(Wire::Cut);
    pinned
        .line("cannot establish another channel to the server: TLS handshake failed: the server's cert")
        .await;
    assert!(downloads.iter().any(|download| !download.has_ended()), "they were too short to show anything");
    for download in downloads {
        assert_eq!(download.end("a download").await, Ok(Fetched::from(file)));
    }
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn a_reload_generates_a_key_that_was_removed_and_a_running_proxy_learns_its_fingerprint() {
    let directory = Directory::new("generated");
    let (mut server, addr) = service(&["--state-dir", &directory.path("")]).await;
    let old = fingerprint(&mut server).await;
    let origin = target::origin(2_000_000).await;
    let relay = Relay::to(addr).await;
    let write = |server: SocketAddr, fingerprint: &str| {
        let service = format!("port = 0\nto = \"{}\"\n", origin.addr);
        let text =
            format!("server = \"{server}\"\nfingerprint = \"{fingerprint}\"\ntoken = \"{TOKEN}\"\n{service}");
        directory.write("proxy.toml", &text);
    };
    write(relay.addr, &old);
    let mut proxy = Process::service(&["proxy", "--config", &directory.path("proxy.toml")]);
    let public = serves(&mut proxy).await;
    let file = DemoFile { seed: 6, size: 8_000_000 };
    let download = download(public, file);
    origin.when_open(1, Duration::from_secs(30)).await;

    server.signal(Signal::Hup).await;
    server.line("read the TLS certificate again").await;
    fs::remove_file(directory.path("tls.pem")).unwrap();
    server.signal(Signal::Hup).await;
    let line = server.line("read another TLS key").await;
    let pem = fs::read_to_string(directory.path("tls.pem")).unwrap();
    let new = Identity::from_pem(&pem, &pem).unwrap().fingerprint().to_string();
    assert!(line.contains(&old) && line.contains(&new), "{line}");

    write(relay.addr, &new);
    proxy.signal(Signal::Hup).await;
    let line = proxy.line("read the configuration again; changed: ").await;
    assert!(line.contains("fingerprint = ") && line.contains(&new), "{line}");
    let before = relay.len();
    assert!(!download.has_ended(), "it was too short to show anything");
    relay.set_all(Wire::Cut);
    assert_eq!(download.end("the open download").await, Ok(Fetched::from(file)));
    assert!(relay.len() > before, "it has needed no new connection");

    // A reload that names a server which refuses the proxy does not end it.
    write(addr, &old);
    proxy.signal(Signal::Hup).await;
    proxy.line("asking this server again in ").await;
    write(addr, &new);
    proxy.signal(Signal::Hup).await;
    serves(&mut proxy).await;
    proxy.signal(Signal::Term).await;
    assert_eq!(proxy.exit().await.code(), Some(0), "{}", proxy.output());
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_named_with_what_to_do() {
    // The operator chose it.
    let mut server = Process::underpass(&[&SERVER[..], &["--state-dir", "/dev/null/state"]].concat());
    assert_eq!(server.exit().await.code(), Some(1), "{}", server.output());
    let error = server.stderr();
    assert!(error.contains("cannot keep a TLS key in /dev/null/state: Not a directory"), "{error}");
    assert!(error.contains("choose another one with --state-dir"), "{error}");
    // It is the default: a container has none, for example. The token authenticates the server.
    let mut server = Process::underpass_with(&SERVER, |command| {
        command.env("STATE_DIRECTORY", "/dev/null/state");
    });
    let addr = server.listens().await;
    let line = server.line("has another fingerprint after the next start").await;
    assert!(line.contains("cannot keep a TLS key in /dev/null/state: Not a directory"), "{line}");
    serves(&mut proxy(&addr.to_string(), addr, &[])).await;
}

#[tokio::test]
async fn a_kept_key_that_others_can_write_is_refused_and_one_that_they_can_read_reported() {
    let state = Directory::new("permissions");
    let pem = Identity::generate().unwrap();
    for (mode, is_refused) in [(0o620, true), (0o602, true), (0o604, false)] {
        state.write("tls.pem", &pem);
        fs::set_permissions(state.path("tls.pem"), fs::Permissions::from_mode(mode)).unwrap();
        let mut server = Process::underpass(&[&SERVER[..], &["--state-dir", &state.path("")]].concat());
        if is_refused {
            assert_eq!(server.exit().await.code(), Some(1), "{}", server.output());
            let expected = format!("another user may have written {}", state.path("tls.pem"));
            assert!(server.stderr().contains(&expected), "{}", server.output());
            assert!(server.stderr().contains("chmod 600"), "{}", server.output());
        } else {
            let line = server.line("can read the TLS key").await;
            assert!(line.contains(&format!("chmod o= {}", state.path("tls.pem"))), "{line}");
            server.listens().await;
        }
    }
}

#[tokio::test]
async fn clear_text_on_one_side_only_is_refused_with_what_to_do() {
    let (mut tls, with) = server(&[]).await;
    let (mut plain, without) = server(&["--plain"]).await;
    is_refused(proxy(&with.to_string(), with, &["--plain"]), &["--plain"]).await;
    tls.line("TLS").await;
    let mut refused = proxy(&without.to_string(), without, &[]);
    refused.line("this is not the tunnel port of a server, or the server was started with --plain").await;
    plain.line("was started with --plain").await;
    serves(&mut proxy(&without.to_string(), without, &["--plain"])).await;
    plain.line("channels are not encrypted").await;
}

#[tokio::test]
async fn other_programs_learn_what_the_tunnel_port_is() {
    for more in [&[][..], &["--plain"]] {
        let (mut server, addr) = server(more).await;
        for (first, name, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: tunnel.test\r\n\r\n"[..], "HTTP", "HTTP/1.1 400 Bad Request\r\n"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH", "This port is"),
        ] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(first).await.unwrap();
            let mut answer = String::new();
            soon("an answer", client.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with(expected), "{answer}");
            assert!(answer.contains("users connect to the public ports"), "{answer}");
            server.line(&format!("the client speaks {name}")).await;
        }
    }
}
