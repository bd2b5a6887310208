"""Machines in network namespaces: three on one network, of which one is a NAT router, and one behind that router.

    server 198.51.100.1 ──┬── internet ──┬── users 198.51.100.3
                          router 198.51.100.2 (masquerade) ── home 192.168.77.2

All of it lives in a process namespace of its own, so that the kernel ends and removes everything when the script ends,
whatever ends it.
"""

import contextlib, os, pathlib, shlex, shutil, signal, subprocess, sys, tempfile, time

SERVER, ROUTER, USERS, HOME = "198.51.100.1", "198.51.100.2", "198.51.100.3", "192.168.77.2"
# Of the network between server, router and users, and of that behind the router.
GATEWAY, INSIDE = "198.51.100.254", "192.168.77.1"

# Set inside of the namespaces, to the directory.
MARK = "UNDERPASS_MACHINES_INSIDE"
# A busy machine takes as long for what otherwise takes a tenth of a second.
PATIENCE = 30

# What a home router does: connections from inside get its address, and nothing else passes. What is refused is counted.
RULES = """
table ip nat {
    chain postrouting { type nat hook postrouting priority srcnat; oifname "outside" masquerade; }
}
table inet filter {
    counter refused {}
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "outside" ct state new counter name refused drop
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "inside" oifname "outside" accept
        counter name refused
    }
}
"""


# What resets the connections to the tunnel port, and refuses new ones.
BROKEN = """
table inet broken {
    chain forward {
        type filter hook forward priority filter - 1
        tcp dport 7000 reject with tcp reset
        tcp sport 7000 reject with tcp reset
    }
}
"""


class Failed(Exception):
    """Raised with what was expected and what was there instead."""


def last(text, lines=12):
    """Returns the last lines of a text, for messages."""
    return "\n" + "\n".join(text.rstrip().splitlines()[-lines:])


def expect(condition, message):
    if not condition:
        raise Failed(message)


def wait_for(what, condition, seconds=PATIENCE, otherwise=lambda: ""):
    """Waits until `condition` returns something true, and returns that. `otherwise` tells what there was instead."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s{last(otherwise(), 50)}")
        time.sleep(0.02)
    return result


def isolate(name, seconds, is_kept):
    """Runs this script again inside of namespaces of its own, and ends with its status: with 0, too, where namespaces
    are not permitted. Inside, returns the directory for everything that is written."""
    if inside := os.environ.get(MARK):
        return pathlib.Path(inside)
    for program in ("unshare", "nsenter", "setpriv", "ip", "nft", "tmux", "curl"):
        if not shutil.which(program):
            sys.exit(f"{name}: {program} is missing (Debian: apt-get install util-linux iproute2 nftables tmux curl)")
    # What is inside ends with its first process, and that with this one.
    unshare = ["setpriv", "--pdeathsig", "KILL"]
    unshare += ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # Without root, a user namespace makes this user root inside.
    unshare += [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    probe = "mount -t tmpfs tmpfs /run && ip link add probe type bridge && nft add table ip probe"
    tried = subprocess.run([*unshare, "sh", "-c", probe], capture_output=True, text=True)
    if tried.returncode:
        print(f"{name}: skipped: namespaces are not permitted: {tried.stderr.strip()}")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = tempfile.mkdtemp(prefix="underpass-machines-")
    story = subprocess.Popen([*unshare, sys.executable, *sys.argv], env=os.environ | {MARK: directory})
    try:
        sys.exit(story.wait(seconds))
    except subprocess.TimeoutExpired:
        sys.exit(f"{name}: not over after {seconds} s")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        story.kill()
        story.wait()
        if is_kept:
            print(f"{name}: all output is in {directory}")
        else:
            shutil.rmtree(directory)


class Process:
    """A command that runs on a machine, with its output in a file."""

    def __init__(self, machine, command, output):
        self.command, self.output = command, output
        with open(output, "wb") as file:
            self.process = subprocess.Popen(
                machine.inside(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def wait(self, seconds=PATIENCE):
        """Waits for the end, and returns the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{shlex.join(self.command)}: still runs after {seconds} s{last(self.text())}") from None

    def text(self):
        return self.output.read_text(errors="replace")


class Terminal:
    """A terminal (tmux) on a machine, in which a shell command runs."""

    def __init__(self, machine, name, command, width=140, height=40):
        self.machine, self.tmux = machine, ("tmux", "-L", name, "-f", machine.directory / "tmux.conf")
        self.ended = machine.directory / f"{name}.status"
        # The shell survives Ctrl-C, and keeps what the command has left on the screen.
        script = f"trap : INT; {command}; echo $? >{self.ended}; exec sleep infinity"
        machine.run(*self.tmux, "new-session", "-d", "-x", width, "-y", height, script)

    def text(self):
        """Returns what the terminal shows and has shown, with wrapped lines joined."""
        return self.machine.run(*self.tmux, "capture-pane", "-p", "-J", "-S", "-").stdout

    def wait_for(self, *texts, seconds=PATIENCE):
        """Waits until all of `texts` are shown, and returns what is."""
        is_shown = lambda: (shown := self.text()) and all(text in shown for text in texts) and shown
        return wait_for(f"{' and '.join(map(repr, texts))} in the terminal", is_shown, seconds, self.text)

    def press(self, *keys):
        """Presses keys by their names in tmux."""
        self.machine.run(*self.tmux, "send-keys", *keys)

    def press_until(self, key, what, condition):
        """Presses a key as people do: again after a second if it has had no effect."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.press(key)
            pressed = time.monotonic()
            while time.monotonic() < pressed + 1:
                if condition(self.text()):
                    return
                time.sleep(0.02)
            expect(pressed < deadline, f"{what}: {key} has no such effect{last(self.text(), 50)}")

    def type(self, text):
        """Types a text as people do, each letter after the one before it is shown. The cockpit takes what is faster for
        a paste, which must not act."""
        for end in range(1, len(text) + 1):
            self.machine.run(*self.tmux, "send-keys", "-l", text[end - 1])
            self.wait_for(text[:end])

    def has_ended(self, _shown=""):
        return self.ended.exists() and self.ended.stat().st_size > 0

    def status(self, seconds=PATIENCE):
        """Waits until the command has ended, and returns its exit status."""
        wait_for("end of the command in the terminal", self.has_ended, seconds, self.text)
        return int(self.ended.read_text())


class Machine:
    """A network namespace with directories of its own for what a machine keeps."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory / name
        self.home, self.root = self.directory / "home", self.directory / "root"
        for path in (self.home, self.root):
            path.mkdir(parents=True)
        (self.directory / "tmux.conf").write_text(
            "set -g status off\nset -g history-limit 10000\nset -s escape-time 0\n")
        setup = "ip link set lo up && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib"
        hold = f"{setup} && echo && exec sleep infinity"
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", hold], stdout=subprocess.PIPE)
        expect(self.holder.stdout.readline(), f"the namespaces of {name} could not be set up")
        self.outputs = 0

    def inside(self, *command):
        """Returns a command line that runs `command` on this machine, in its home."""
        # No variable of the caller changes what is tested.
        environment = {
            "PATH": f"{self.root}/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.home, "TMUX_TMPDIR": self.directory, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        variables = [f"{name}={value}" for name, value in environment.items()]
        enter = ["nsenter", "--target", self.holder.pid, "--net", "--mount"]
        return [str(word) for word in (*enter, "env", "-i", f"--chdir={self.home}", *variables, *command)]

    def run(self, *command, check=True):
        """Runs a command until it ends, and returns the completed process."""
        what = f"{self.name}: {shlex.join(map(str, command))}"
        try:
            done = subprocess.run(
                self.inside(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{what}: still runs after {PATIENCE} s") from None
        expect(not check or done.returncode == 0, f"{what}: exit status {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *command):
        self.outputs += 1
        return Process(self, [str(word) for word in command], self.directory / f"output-{self.outputs}")

    def terminal(self, name, command):
        return Terminal(self, name, command)


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


class World:
    """The four machines and their networks."""

    def __init__(self, directory):
        names = ("server", "router", "users", "home")
        self.server, self.router, self.users, self.home = (Machine(name, directory) for name in names)
        ip("link", "add", "internet", "type", "bridge")
        ip("address", "add", f"{GATEWAY}/24", "dev", "internet")
        ip("link", "set", "internet", "up")
        for machine, address in ((self.server, SERVER), (self.router, ROUTER), (self.users, USERS)):
            ip("link", "add", machine.name, "type", "veth", "peer", "name", "outside", "netns", machine.holder.pid)
            ip("link", "set", machine.name, "master", "internet", "up")
            self.connect(machine, "outside", address, GATEWAY)
        to_home = ("type", "veth", "peer", "name", "outside", "netns", self.home.holder.pid)
        self.router.run("ip", "link", "add", "inside", *to_home)
        self.connect(self.router, "inside", INSIDE)
        self.connect(self.home, "outside", HOME, INSIDE)
        rules = self.router.directory / "rules"
        rules.write_text(RULES)
        self.router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        self.router.run("nft", "-f", rules)

    @staticmethod
    def connect(machine, device, address, gateway=None):
        machine.run("ip", "address", "add", f"{address}/24", "dev", device)
        machine.run("ip", "link", "set", device, "up")
        if gateway:
            machine.run("ip", "route", "add", "default", "via", gateway)

    @contextlib.contextmanager
    def broken_connections(self):
        """Has the router reset all connections to the server's tunnel port, and refuse new ones, for a while."""
        self.router.run("nft", BROKEN)
        try:
            yield
        finally:
            self.router.run("nft", "delete table inet broken")

    def refused(self):
        """Returns how many packets the router has refused."""
        words = self.router.run("nft", "list", "counter", "inet", "filter", "refused").stdout.split()
        return int(words[words.index("packets") + 1])
