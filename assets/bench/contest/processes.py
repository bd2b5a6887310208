"""Starts and stops the programs under test; chooses their ports; puts an emulated link between them."""

import os, pathlib, random, shutil, socket, subprocess, time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILT = ROOT / "target/dist"
HOST = "127.0.0.1"


class Skip(Exception):
    """Raised with the reason why something is not measured."""


def program(name):
    found = shutil.which(name) or shutil.which(name, path=f"{os.path.expanduser('~/.cargo/bin')}:/usr/sbin:/sbin")
    if not found:
        raise Skip(f"{name} is not installed")
    return found


def built(name):
    path = BUILT / name
    if not os.access(path, os.X_OK):
        raise Skip(f"no {path.relative_to(ROOT)}: cargo build --profile dist --examples --bins")
    return str(path)


def free_port():
    # Below the range from which the kernel assigns ports to outgoing connections (32768-60999), so that no connection
    # takes the port first.
    while True:
        port = random.randrange(20000, 32000)
        if is_free(port):
            return port


def is_free(port, host=HOST):
    with socket.socket() as probe:
        # As servers do: sockets of an earlier run in TIME_WAIT do not prevent the bind.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return True
        except OSError:
            return False


def is_listening(port):
    # Reads the kernel's table instead of connecting, because iperf3's server takes the first connection for its client.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = open(table).read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def resident_kib(process):
    for line in open(f"/proc/{process.pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise Skip("the system does not report the memory of a process")


class Processes:
    """Programs started by this script. Only these are stopped."""

    def __init__(self, directory, name):
        self.log = directory / f"{name.replace(' ', '-')}.log"
        self.running = []

    def start(self, *command, talk=False):
        """Starts a program. With `talk`, its stdin and stdout are pipes."""
        with open(self.log, "ab") as log:
            pipe = subprocess.PIPE if talk else None
            process = subprocess.Popen(
                [str(word) for word in command], stdin=pipe or subprocess.DEVNULL, stdout=pipe or log, stderr=log,
                text=True)
        self.running.append(process)
        return process

    def tail(self):
        return "".join(f"\n      {line}" for line in self.log.read_text(errors="replace").strip().splitlines()[-3:])

    def wait_for(self, port, what, seconds=10):
        deadline = time.monotonic() + seconds
        while not is_listening(port):
            ended = [p for p in self.running if p.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"ended with {ended[0].returncode}" if ended else f"not within {seconds} s"
                raise Skip(f"{what}: {why}{self.tail()}")
            time.sleep(0.02)

    def all_run(self):
        return all(process.poll() is None for process in self.running)

    def stop(self):
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    # Unsent input of a program that has ended is discarded.
                    try:
                        pipe.close()
                    except OSError:
                        pass
        self.running.clear()


class Stage:
    """Environment of one tunnel: its processes, the ports of target and users, and the emulated link, if any."""

    def __init__(self, processes, directory, link=None):
        self.processes, self.directory, self.link = processes, directory, link
        self.target, self.public = free_port(), free_port()
        self.server = self.steering = None

    def start(self, *command, **how):
        return self.processes.start(*command, **how)

    def reach(self, port, listen=None):
        """Returns a port that forwards to `port` over the emulated link, or `port` itself without a link."""
        if not self.link:
            return port
        host, at = listen or (HOST, free_port())
        self.start(built("examples/link"), "--listen", f"{host}:{at}", "--to", f"{HOST}:{port}", *self.link)
        self.processes.wait_for(at, "the link does not listen")
        return at

    def wait_for(self, port, what):
        self.processes.wait_for(port, what)
