"""What is measured through a tunnel: each of these runs once and gives figures by name, or says why it failed."""

import json, os, re, subprocess, sys, threading, time

from .processes import HOST, Processes, Skip, built, program, resident_kib


class Failed(Exception):
    """Why one measurement gave nothing."""


def run(command, seconds, **how):
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=seconds, **how)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} was not done after {seconds} s") from None
    if done.returncode:
        # The last line alone may be that of a thread which only waited for the one that failed.
        raise Failed(done.stderr.strip().replace("\n", " / ")[-400:] or f"{command[0]} ended with {done.returncode}")
    return done.stdout


class Iperf:
    """Gbit/s that arrived."""

    units, target = {"rate": "Gbit/s"}, "iperf3"

    def __init__(self, *arguments, seconds=3, warm_up=1):
        self.arguments, self.seconds, self.warm_up = arguments, seconds, warm_up

    def check(self):
        program("iperf3")

    def __call__(self, stage, options):
        seconds = options.seconds or self.seconds
        # A server for each run (-1): a run that breaks off cannot leave it busy for the next one.
        server = Processes(stage.directory, "iperf3-server")
        try:
            server.start(program("iperf3"), "-s", "-1", "-B", HOST, "-p", stage.target)
            server.wait_for(stage.target, "iperf3 does not listen")
            result = json.loads(self.client(stage, "-t", seconds, "-O", self.warm_up, timeout=seconds + 20))
        except Skip as why:
            raise Failed(why) from None
        finally:
            server.stop()
        try:
            return {"rate": result["end"]["sum_received"]["bits_per_second"] / 1e9}
        except KeyError:
            raise Failed(result.get("error", "no result")) from None

    def client(self, stage, *arguments, timeout):
        command = (program("iperf3"), "-c", HOST, "-p", stage.public, "-J", *arguments, *self.arguments)
        return run(command, timeout)


class Wrk:
    """Requests a second over 32 connections, and how long they took; `beside` a program for each core that only computes,
    if so asked.
    """

    units, target = {"rate": "requests/s", "p50": "ms", "p99": "ms"}, "load"
    # In words of its own wrk tells no 99th percentile that a program could read.
    SCRIPT = (
        "done = function(summary, latency)\n"
        "  local e = summary.errors\n"
        "  io.write(string.format('RESULT %d %d %f %f %d\\n', summary.requests, summary.duration,\n"
        "    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))\n"
        "end\n")

    # It ends by itself if nobody ends it.
    LOOP = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"

    def __init__(self, *headers, seconds=3, beside=False):
        self.headers, self.seconds, self.beside = headers, seconds, beside

    def check(self):
        program("wrk")
        built("examples/load")

    def __call__(self, stage, options):
        seconds = options.seconds or self.seconds
        script = stage.directory / "wrk.lua"
        script.write_text(self.SCRIPT)
        headers = [word for header in self.headers for word in ("-H", header)]
        others = Processes(stage.directory, "others")
        try:
            for _ in range(os.cpu_count() if self.beside else 0):
                others.start(sys.executable, "-c", self.LOOP, seconds + 20)
            said = run(
                (program("wrk"), "-t", 1, "-c", 32, "-d", f"{seconds}s", "-s", script, *headers,
                 f"http://{HOST}:{stage.public}/"), seconds + 20)
            if not others.all_run():
                raise Failed("what computes beside it has ended")
        finally:
            others.stop()
        count, micros, p50, p99, errors = map(float, re.search(r"RESULT (.*)", said)[1].split())
        if errors > count / 1000:
            raise Failed(f"{errors:.0f} errors beside {count:.0f} responses")
        return {"rate": count / micros * 1e6, "p50": p50 / 1000, "p99": p99 / 1000, "errors": errors}


class Ping:
    """Round trips of 64 bytes, in ms, beside downloads or alone. `beyond` is what a link's delay is taken off."""

    units, target = {"p50": "ms", "p99": "ms", "bulk": "Gbit/s"}, "load"

    def __init__(self, downloads=0, seconds=3, pause_us=0, beyond=0):
        self.downloads, self.seconds, self.pause_us, self.beyond = downloads, seconds, pause_us, beyond

    def check(self):
        built("examples/load")

    def __call__(self, stage, options):
        seconds = options.seconds or self.seconds
        client = Processes(stage.directory, "ping")
        try:
            user = client.start(
                built("examples/load"), "ping", "--to", f"{HOST}:{stage.public}", "--downloads", self.downloads,
                "--seconds", seconds, "--pause-us", self.pause_us, "--announce", talk=True)
            # A tunnel that never answers must not stop us.
            watch = threading.Timer(seconds + 60, user.kill)
            watch.start()
            try:
                address = user.stdout.readline().strip()
                if address and stage.steering:
                    print(address, "high", file=stage.steering.stdin, flush=True)
                    if stage.steering.stdout.readline().strip() != "done":
                        raise Failed(f"no such stream: {address}")
                said, _ = user.communicate("\n")
            finally:
                watch.cancel()
            if user.returncode:
                raise Failed(f"the user's program failed{client.tail()}")
        finally:
            client.stop()
        result = json.loads(said)
        p50, p99 = (result[key] / 1000 - self.beyond for key in ("p50_us", "p99_us"))
        return {"p50": p50, "p99": p99, "bulk": result["bulk_gbit"], "pings": result["count"]}


class Idle:
    """KiB on the server for each of many streams that are open and silent."""

    units, target = {"each": "KiB"}, "load"

    def check(self):
        built("examples/load")

    def __call__(self, stage, options):
        client = Processes(stage.directory, "idle")

        def held(count):
            user = client.start(
                built("examples/load"), "idle", "--to", f"{HOST}:{stage.public}", "--count", count, talk=True)
            watch = threading.Timer(120, user.kill)
            watch.start()
            try:
                if not user.stdout.readline():
                    raise Failed(f"{count} streams could not be opened{client.tail()}")
            finally:
                watch.cancel()
            return resident_kib(stage.server)

        try:
            # What the first streams make a server allocate is no stream's.
            before = held(20)
            return {"each": (held(options.idle) - before) / options.idle}
        finally:
            client.stop()


class Carried:
    """MiB that the server has more after carrying much than after its first twentieth."""

    units, target = {"growth": "MiB", "most": "MiB"}, "iperf3"

    def check(self):
        program("iperf3")

    def __call__(self, stage, options):
        sizes, iperf, ended = [], Iperf("-R", "-n", f"{options.carry}G"), threading.Event()

        def look():
            while not ended.wait(0.2):
                sizes.append(resident_kib(stage.server))

        server, watch = Processes(stage.directory, "iperf3-server"), threading.Thread(target=look)
        begin = time.monotonic()
        try:
            server.start(program("iperf3"), "-s", "-1", "-B", HOST, "-p", stage.target)
            server.wait_for(stage.target, "iperf3 does not listen")
            watch.start()
            # A tenth of what a tunnel should do is still no reason to give up.
            iperf.client(stage, timeout=options.carry * 10 + 60)
        except Skip as why:
            raise Failed(why) from None
        finally:
            ended.set()
            if watch.ident:
                watch.join()
            server.stop()
        if len(sizes) < 5:
            raise Failed(f"over after {time.monotonic() - begin:.1f} s: carry more")
        warm = sizes[:max(1, len(sizes) // 20) + 1]
        return {"growth": (max(sizes[-3:]) - max(warm)) / 1024, "most": max(sizes) / 1024}
