"""The tunnels. Each starts on a stage, and then leads from `stage.public` to `stage.target`."""

import getpass, os, subprocess

from .processes import HOST, Skip, built, free_port, is_free, program

TOKEN = "vK8dR2xQ9mWz4LpT7cYb"
# bore's control port is fixed.
BORE_PORT = 7835
# Another address of this machine, for a link in front of a port that is fixed.
OTHER_HOST = "127.0.0.2"


class Direct:
    """No tunnel: what the machine, or the link, can do."""

    name = "direct"

    def start(self, stage):
        # The target may not listen yet, and need not.
        stage.public = stage.reach(stage.target)

    def version(self):
        return os.uname().release


class Underpass:
    """With two channels, and without encryption except with `tls`: few of the peers encrypt. `steered` is the same server
    in a program that takes orders: it serves one stream high."""

    def __init__(self, name, wire="binary", steered=False, tls=False):
        self.name, self.wire, self.steered = name, wire, steered
        self.plain = () if tls else ("--plain",)

    def start(self, stage):
        listen = free_port()
        common = ("--listen", f"{HOST}:{listen}", "--bind", HOST, "--token", TOKEN)
        if self.steered:
            stage.server = stage.steering = stage.start(built("examples/steer"), *common, talk=True)
        else:
            state = stage.directory / "underpass-state"
            stage.server = stage.start(
                built("underpass"), "server", *common, *self.plain, "--no-tui", "--state-dir", state)
        stage.wait_for(listen, "the server does not listen")
        stage.start(
            built("underpass"), "proxy", "--server", f"{HOST}:{stage.reach(listen)}", "--port", stage.public, "--to",
            f"{HOST}:{stage.target}", "--token", TOKEN, *self.plain, "--channels", 2, "--format", self.wire)
        stage.wait_for(stage.public, "the proxy has no public port")

    def version(self):
        return said(built("underpass"), "--version")


class Rathole:
    """In clear, or with the encryption `transport`: `tls` or `noise`."""

    def __init__(self, name, transport="tcp"):
        self.name, self.transport = name, transport

    def settings(self, directory):
        """The transport's sections in the files of server and client."""
        if self.transport == "tls":
            certificate(directory)
            return (
                f'[server.transport]\ntype = "tls"\n[server.transport.tls]\npkcs12 = "{directory}/identity.pfx"\n'
                'pkcs12_password = "bench"\n',
                f'[client.transport]\ntype = "tls"\n[client.transport.tls]\ntrusted_root = "{directory}/cert.pem"\n'
                'hostname = "localhost"\n')
        if self.transport == "noise":
            lines = said(program("rathole"), "--genkey", all=True).split()
            private, public = lines[lines.index("Private") + 2], lines[lines.index("Public") + 2]
            return (
                f'[server.transport]\ntype = "noise"\n[server.transport.noise]\nlocal_private_key = "{private}"\n',
                f'[client.transport]\ntype = "noise"\n[client.transport.noise]\nremote_public_key = "{public}"\n')
        return "", ""

    def start(self, stage):
        rathole, listen = program("rathole"), free_port()
        server, client = stage.directory / "rathole-server.toml", stage.directory / "rathole-client.toml"
        of_server, of_client = self.settings(stage.directory)
        server.write_text(
            f'[server]\nbind_addr = "{HOST}:{listen}"\ndefault_token = "{TOKEN}"\n{of_server}'
            f'[server.services.bench]\nbind_addr = "{HOST}:{stage.public}"\n')
        stage.server = stage.start(rathole, "--server", server)
        stage.wait_for(listen, "the server does not listen")
        client.write_text(
            f'[client]\nremote_addr = "{HOST}:{stage.reach(listen)}"\ndefault_token = "{TOKEN}"\n{of_client}'
            f'[client.services.bench]\nlocal_addr = "{HOST}:{stage.target}"\n')
        stage.start(rathole, "--client", client)
        stage.wait_for(stage.public, "the client has no public port")

    def version(self):
        lines = said(program("rathole"), "--version", all=True).splitlines()
        return next((line.split()[-1] for line in lines if "Build Version" in line), "?")


class Bore:
    name = "bore"

    def start(self, stage):
        bore = program("bore")
        if not is_free(BORE_PORT):
            raise Skip(f"port {BORE_PORT}, which bore cannot do without, is taken")
        stage.server = stage.start(
            bore, "server", "--bind-addr", HOST, "--min-port", stage.public, "--max-port", stage.public,
            "--secret", TOKEN)
        stage.wait_for(BORE_PORT, "the server does not listen")
        stage.reach(BORE_PORT, (OTHER_HOST, BORE_PORT))
        stage.start(
            bore, "local", stage.target, "--local-host", HOST, "--to", OTHER_HOST if stage.link else HOST,
            "--port", stage.public, "--secret", TOKEN)
        stage.wait_for(stage.public, "the client has no public port")

    def version(self):
        return said(program("bore"), "--version")


class Ssh:
    """`ssh -R` to an sshd of our own: its own keys and configuration, and nobody's account but ours."""

    name = "ssh -R"

    def start(self, stage):
        ssh, sshd, keygen = program("ssh"), program("sshd"), program("ssh-keygen")
        if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
            raise Skip("an sshd that root runs wants /run/sshd: mkdir /run/sshd")
        listen, directory = free_port(), stage.directory
        host_key, user_key = directory / "ssh-host", directory / "ssh-user"
        for key in (host_key, user_key):
            if not key.exists():
                subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        config, known = directory / "sshd_config", directory / "ssh-known"
        config.write_text(
            f"ListenAddress {HOST}:{listen}\nHostKey {host_key}\nAuthorizedKeysFile {user_key}.pub\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n")
        stage.start(sshd, "-D", "-e", "-f", config)
        stage.wait_for(listen, "sshd does not listen")
        known.unlink(missing_ok=True)
        stage.start(
            ssh, "-F", "none", "-N", "-p", stage.reach(listen), "-i", user_key, "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=accept-new",
            "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR",
            "-R", f"{HOST}:{stage.public}:{HOST}:{stage.target}", f"{getpass.getuser()}@{HOST}")
        stage.wait_for(stage.public, "ssh has no public port")

    def version(self):
        return said(program("ssh"), "-V")


class Haproxy:
    """No tunnel, but the same two hops, and the bytes stay in the kernel: splice(2); with `tls` between the hops they do
    not."""

    def __init__(self, name, tls=False):
        self.name, self.tls = name, tls

    def start(self, stage):
        haproxy, hop = program("haproxy"), free_port()
        accept = connect = ""
        if self.tls:
            certificate(stage.directory)
            accept, connect = f"ssl crt {stage.directory}/identity.pem", "ssl verify none"
        for name, listen, to, bind, server in (
                ("back", hop, stage.target, accept, ""),
                ("front", stage.public, stage.reach(hop), "", connect)):
            config = stage.directory / f"haproxy-{name}.cfg"
            config.write_text(
                "global\n    maxconn 4000\ndefaults\n    mode tcp\n    option splice-auto\n    timeout connect 5s\n"
                f"    timeout client 1h\n    timeout server 1h\nlisten hop\n    bind {HOST}:{listen} {bind}\n"
                f"    server next {HOST}:{to} {server}\n")
            stage.start(haproxy, "-db", "-f", config)
            stage.wait_for(listen, "haproxy does not listen")

    def version(self):
        return said(program("haproxy"), "-v")


def certificate(directory):
    """Makes a self-signed certificate: cert.pem, with its key in identity.pem, and both in identity.pfx."""
    openssl, key, cert, both = program("openssl"), *(directory / name for name in ("key.pem", "cert.pem", "identity.pem"))
    if both.exists():
        return
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True)
    subprocess.run(
        [openssl, "pkcs12", "-export", "-inkey", key, "-in", cert, "-out", directory / "identity.pfx",
         "-passout", "pass:bench"], check=True, capture_output=True)
    both.write_text(cert.read_text() + key.read_text())


def said(*command, all=False):
    done = subprocess.run(command, capture_output=True, text=True)
    text = (done.stdout or done.stderr).strip()
    return text if all else text.partition("\n")[0]


TUNNELS = {
    tunnel.name: tunnel for tunnel in (
        Direct(), Underpass("underpass"), Underpass("underpass high", steered=True), Underpass("underpass text", "text"),
        Underpass("underpass tls", tls=True), Rathole("rathole"), Rathole("rathole tls", "tls"),
        Rathole("rathole noise", "noise"), Bore(), Ssh(), Haproxy("haproxy twice"), Haproxy("haproxy tls", tls=True))
}
