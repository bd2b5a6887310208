"""Tunnels over an emulated path (examples/wan), and what is measured over them: kernel TCP at both ends, loss, distance.

Each measurement gets a pair of namespaces and a tunnel of its own, so that nothing is left of the one before: no congestion
window, no cached TCP metrics, no grown window.
"""

import argparse, contextlib, itertools, json, os, pathlib, re, shlex, shutil, subprocess, threading, time

from .measures import Failed, Wrk, run
from .processes import HOST, Processes, Skip, built, program

NEAR, FAR = "10.77.0.1", "10.77.0.2"
# Every tunnel has its own namespaces, and therefore these ports for itself.
TUNNEL_PORT, PUBLIC_PORT, SECOND_PUBLIC_PORT, TARGET_PORT, BORE_PORT, IPERF_PORT = 7000, 8080, 8081, 9000, 7835, 5201
TOKEN = "vK8dR2xQ9mWz4LpT7cYb"


class Programs:
    """Paths of the programs that a measurement starts."""

    def __init__(self, rig, load):
        self.rig, self.load = rig, load


class Path:
    """An emulated path: rate in Mbit/s, RTT in ms, congestion control of both namespaces, loss in percent, queue in ms."""

    def __init__(self, rate, rtt, congestion, loss, queue):
        self.rate, self.rtt, self.congestion, self.loss, self.queue = rate, rtt, congestion, loss, queue

    def arguments(self, seed):
        return ("--rate", f"{self.rate}M", "--rtt", f"{self.rtt}ms", "--queue", f"{self.queue}ms", "--loss", f"{self.loss}%",
                "--congestion", self.congestion, "--seed", seed)


class Rig:
    """A running pair of namespaces with the target in the far one."""

    def __init__(self, name, path, programs, directory, seed):
        self.name, self.programs, self.directory = name, programs, directory
        self.processes = Processes(directory, "wan")
        # The real-time scheduler keeps the path exact while other programs compute.
        realtime = (shutil.which("chrt"), "--rr", 1) if os.geteuid() == 0 and shutil.which("chrt") else ()
        self.rig = self.processes.start(
            *realtime, programs.rig, "--name", name, *path.arguments(seed), talk=True)
        if self.rig.stdout.readline().strip() != "ready":
            code = self.rig.wait()
            why = f"examples/wan ended with {code}{self.processes.tail()}"
            self.stop()
            raise Skip(why)
        try:
            target = self.far(programs.load, "target", "--listen", f"0.0.0.0:{TARGET_PORT}")
            self.wait_for(target, TARGET_PORT, "the target does not listen")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        # The namespaces are removed last: before that, the programs inside have ended.
        self.processes.running.reverse()
        self.processes.stop()

    def near(self, *command, **how):
        return self.processes.start(*self.inside("near", *command), **how)

    def far(self, *command, **how):
        return self.processes.start(*self.inside("far", *command), **how)

    def inside(self, side, *command):
        return ("ip", "netns", "exec", f"{self.name}-{side}", *command)

    def ask(self, command):
        print(command, file=self.rig.stdin, flush=True)
        return self.rig.stdout.readline().strip()

    def statistics(self):
        return json.loads(self.ask("stats"))

    def wait_for(self, process, port, what, seconds=20):
        """Waits until something listens on `port` in the namespace of `process`."""
        deadline = time.monotonic() + seconds
        while not is_listening(process.pid, port):
            ended = [p for p in self.processes.running if p.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"ended with {ended[0].returncode}" if ended else f"not within {seconds} s"
                raise Failed(f"{what}: {why}{self.processes.tail()}")
            time.sleep(0.02)


def is_listening(pid, port):
    # Before `ip netns exec` has entered the namespace, the tables are those of this process: whatever listens on the port
    # outside was taken for the program that is about to, and the load came too early ("connection refused").
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return False
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in open(f"/proc/{pid}/net/{table}").read().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
    return False


class Direct:
    """No tunnel: users connect to the target over the path."""

    name = "direct"

    def start(self, rig):
        return FAR, TARGET_PORT


class Rathole:
    name = "rathole"

    def start(self, rig):
        rathole = program("rathole")
        server, client = rig.directory / "rathole-server.toml", rig.directory / "rathole-client.toml"
        server.write_text(
            f'[server]\nbind_addr = "{NEAR}:{TUNNEL_PORT}"\ndefault_token = "{TOKEN}"\n'
            f'[server.services.bench]\nbind_addr = "{HOST}:{PUBLIC_PORT}"\n')
        client.write_text(
            f'[client]\nremote_addr = "{NEAR}:{TUNNEL_PORT}"\ndefault_token = "{TOKEN}"\n'
            f'[client.services.bench]\nlocal_addr = "{HOST}:{TARGET_PORT}"\n')
        process = rig.near(rathole, "--server", server)
        rig.wait_for(process, TUNNEL_PORT, "the server does not listen")
        rig.far(rathole, "--client", client)
        rig.wait_for(process, PUBLIC_PORT, "the client has no public port")
        return HOST, PUBLIC_PORT


class Bore:
    name = "bore"

    def start(self, rig):
        bore = program("bore")
        process = rig.near(
            bore, "server", "--bind-addr", "0.0.0.0", "--min-port", PUBLIC_PORT, "--max-port", PUBLIC_PORT, "--secret", TOKEN)
        rig.wait_for(process, BORE_PORT, "the server does not listen")
        rig.far(
            bore, "local", TARGET_PORT, "--local-host", HOST, "--to", NEAR, "--port", PUBLIC_PORT, "--secret", TOKEN)
        rig.wait_for(process, PUBLIC_PORT, "the client has no public port")
        return HOST, PUBLIC_PORT


# As the other tunnels here, without encryption.
CLEAR = "--plain", "--insecure"


class Underpass:
    """underpass with options of its proxy, at first its defaults."""

    def __init__(self, name, command, *options):
        self.name, self.command, self.options = name, command, options

    def start(self, rig):
        self.server = rig.near(
            self.command, "server", "--listen", f"{NEAR}:{TUNNEL_PORT}", "--bind", HOST, "--token", TOKEN, "--no-tui",
            *CLEAR)
        rig.wait_for(self.server, TUNNEL_PORT, "the server does not listen")
        self.proxy(rig, PUBLIC_PORT, *self.options)
        return HOST, PUBLIC_PORT

    def proxy(self, rig, port, *options):
        rig.far(
            self.command, "proxy", "--server", f"{NEAR}:{TUNNEL_PORT}", "--port", port, "--to", f"{HOST}:{TARGET_PORT}",
            "--token", TOKEN, *CLEAR, *options)
        rig.wait_for(self.server, port, "the proxy has no public port")


def parse_underpass(text):
    """`[NAME=]PROGRAM [OPTIONS OF THE PROXY]`."""
    command, *options = shlex.split(text)
    name, equals, path = command.partition("=")
    return Underpass(name, path, *options) if equals else Underpass("underpass", command, *options)


def load(rig, address, *arguments, timeout):
    kind, *rest = arguments
    host, port = address
    said = run(rig.inside("near", rig.programs.load, kind, "--to", f"{host}:{port}", *map(str, rest)), timeout)
    return json.loads(said)


class Transfer:
    """Goodput in Mbit/s at the receivers, in a fixed time from before the connections are opened."""

    units = {"rate": "Mbit/s"}

    def __init__(self, name, title, downloads=0, uploads=0):
        self.name, self.title, self.downloads, self.uploads = name, title, downloads, uploads

    def __call__(self, rig, tunnel, address, path, options):
        def transfer(seconds):
            return load(rig, address, "transfer", "--downloads", self.downloads, "--uploads", self.uploads,
                        "--seconds", seconds, timeout=seconds + 60)
        if options.earlier:
            transfer(options.earlier)
            # What is in flight when its users leave must not count as load of the path.
            time.sleep(1 + 4 * path.rtt / 1000)
        said = transfer(options.seconds)
        return {"rate": sum(said["download_mbit"] + said["upload_mbit"])}

    def bandwidth(self, path):
        return path.rate


class PingBeside:
    """Round trips of 64 bytes on four connections, each with a pause of 20 ms between them, next to four downloads."""

    name, title, units = "ping", "ping next to four downloads", {"p50": "ms", "p99": "ms", "bulk": "Mbit/s"}

    def __call__(self, rig, tunnel, address, path, options):
        # A closed loop makes fewer pings where the RTT is long.
        seconds = options.ping_seconds * max(1, round(path.rtt / 100))
        said = load(rig, address, "ping", "--downloads", 4, "--pings", 4, "--seconds", seconds, "--warm-up", 3,
                    "--pause-us", 20_000, timeout=seconds + 90)
        return {"p50": said["p50_us"] / 1000, "p99": said["p99_us"] / 1000, "max": said["max_us"] / 1000,
                "bulk": said["bulk_gbit"] * 1000, "pings": said["count"]}

    def bandwidth(self, path):
        return path.rate


class Http:
    """Requests of 1 KiB over 32 keep-alive connections."""

    name, title, units = "http", "HTTP, 32 keep-alive connections, 1 KiB", {"rate": "requests/s", "p50": "ms", "p99": "ms"}

    def __call__(self, rig, tunnel, address, path, options):
        script = rig.directory / "wrk.lua"
        script.write_text(Wrk.SCRIPT)
        said = run(rig.inside("near", program("wrk"), "-t", 1, "-c", 32, "-d", f"{options.seconds}s", "--timeout", "20s",
                              "-s", script, f"http://{address[0]}:{address[1]}/"), options.seconds + 60)
        count, micros, p50, p99, errors = map(float, re.search(r"RESULT (.*)", said)[1].split())
        if errors:
            raise Failed(f"{errors:.0f} errors beside {count:.0f} responses")
        return {"rate": count / micros * 1e6, "p50": p50 / 1000, "p99": p99 / 1000}

    def bandwidth(self, path):
        return min(path.rate, 32 * 10 / path.rtt)


class TwoProxies:
    """Two proxies on one path, one of them with 8 channels; a download through each."""

    name, title, units = "proxies", "two proxies, one with 8 channels", {"share": "", "rate": "Mbit/s"}

    def __call__(self, rig, tunnel, address, path, options):
        if not isinstance(tunnel, Underpass):
            raise Skip("it has no channels")
        tunnel.proxy(rig, SECOND_PUBLIC_PORT, "--channels", 8)
        other, result = (address[0], SECOND_PUBLIC_PORT), {}

        def through(key, to):
            try:
                result[key] = load(rig, to, "transfer", "--downloads", 1, "--seconds", options.seconds,
                                   timeout=options.seconds + 60)["download_mbit"][0]
            except Failed as why:
                result[key] = why

        threads = [threading.Thread(target=through, args=a) for a in (("small", address), ("large", other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for value in result.values():
            if isinstance(value, Failed):
                raise value
        total = result["small"] + result["large"]
        return {"share": result["small"] / total if total else 0, "rate": total, **result}

    def bandwidth(self, path):
        return path.rate


class Fairness:
    """A download through the tunnel next to a direct cubic download over the same path."""

    name, title, units = "fairness", "one download next to a direct cubic download", {"rate": "Mbit/s", "cubic": "Mbit/s"}

    def __call__(self, rig, tunnel, address, path, options):
        iperf = program("iperf3")
        server = rig.far(iperf, "-s", "-1", "-p", IPERF_PORT)
        rig.wait_for(server, IPERF_PORT, "iperf3 does not listen")
        client = subprocess.Popen(
            rig.inside("near", iperf, "-c", FAR, "-p", str(IPERF_PORT), "-R", "-C", "cubic", "-J", "-t", str(options.seconds)),
            stdout=subprocess.PIPE, text=True)
        try:
            rate = load(rig, address, "transfer", "--downloads", 1, "--seconds", options.seconds,
                        timeout=options.seconds + 60)["download_mbit"][0]
            said = json.loads(client.communicate(timeout=30)[0])
        finally:
            client.kill()
            client.wait()
        # It has ended by itself, which `wait_for` would report as a failure.
        rig.processes.running.remove(server)
        server.wait(timeout=10)
        return {"rate": rate, "cubic": said["end"]["sum_received"]["bits_per_second"] / 1e6}

    def bandwidth(self, path):
        return path.rate


WORKLOADS = {workload.name: workload for workload in (
    Transfer("download", "one download", downloads=1), Transfer("upload", "one upload", uploads=1),
    Transfer("downloads", "four downloads", downloads=4), PingBeside(), Http(), TwoProxies(), Fairness())}

PEERS = ("rathole", "bore")


class Requirement:
    """What a figure of underpass has to meet: an absolute limit, or a multiple of one peer or the better of several."""

    def __init__(self, text, meets):
        self.text, self.meets = text, meets


def at_least(factor, *peers):
    who = "better peer" if len(peers) > 1 else peers[0]
    return Requirement(f"≥ {factor:g} × {who}", lambda ours, theirs: (
        ours >= factor * max(theirs[p] for p in peers if p in theirs) if any(p in theirs for p in peers) else None))


def at_most(limit=None, rathole=None):
    """At most `limit` and at most `rathole` times the figure of rathole, where they are given."""
    limits = ((limit, ""), (rathole, " × rathole"))
    text = " and ".join(f"≤ {value:g}{unit}" for value, unit in limits if value is not None)

    def meets(ours, theirs):
        if rathole is not None and "rathole" not in theirs:
            return None
        return (limit is None or ours <= limit) and (rathole is None or ours <= rathole * theirs["rathole"])

    return Requirement(text, meets)


def requirement(path, workload, key):
    """Returns what is required of a figure; None if it is only reported."""
    if isinstance(workload, Transfer):
        return at_least(1.8 if path.congestion == "cubic" and path.loss else 0.97, *PEERS)
    return {
        ("ping", "p50"): lambda: at_most(path.rtt + 8, 1),
        ("ping", "p99"): lambda: at_most(2.5 * path.rtt if path.loss else path.rtt + 15, 1),
        ("http", "rate"): lambda: at_least(0.97, "rathole"),
        ("http", "p50"): lambda: at_most(path.rtt + 4),
        ("http", "p99"): lambda: at_most(rathole=0.5) if path.loss else None,
        ("proxies", "share"): lambda: Requirement("≥ 0.3", lambda ours, theirs: ours >= 0.3),
    }.get((workload.name, key), lambda: None)()


def measure(name, path, workload, tunnel, programs, directory, seed, options):
    """Measures once, in namespaces of its own. Returns the figures, with the statistics of the path under `path`."""
    directory = pathlib.Path(directory) / name
    directory.mkdir()
    rig = Rig(name, path, programs, directory, seed)
    try:
        address = tunnel.start(rig)
        rig.statistics()
        figures = workload(rig, tunnel, address, path, options)
        # A program that recovers from a panic can still reach its figures.
        if "panicked" in rig.processes.log.read_text(errors="replace"):
            raise Failed(f"a panic: {rig.processes.log}")
        return figures | {"path": rig.statistics()}
    finally:
        rig.stop()


class Measure:
    """A workload on one path as a row of `peers`. It starts the tunnel itself, for each round."""

    target, counter = None, itertools.count()

    def __init__(self, workload, path):
        self.workload, self.path, self.units = workload, path, workload.units

    def check(self):
        if os.geteuid():
            raise Skip("namespaces need root")
        self.programs = Programs(built("examples/wan"), built("examples/load"))

    def tunnel(self, name):
        return Underpass(name, built("underpass")) if name == "underpass" else TUNNELS[name]

    def __call__(self, stage, options):
        number, seconds = next(self.counter), options.seconds or 10
        try:
            figures = measure(
                f"bench{os.getpid()}x{number}", self.path, self.workload, stage.tunnel, self.programs, stage.directory, number,
                argparse.Namespace(seconds=seconds, ping_seconds=seconds, earlier=0))
            figures.pop("path")
            return figures
        except Skip as why:
            raise Failed(why) from None


TUNNELS = {tunnel.name: tunnel for tunnel in (Direct(), Rathole(), Bore())}
