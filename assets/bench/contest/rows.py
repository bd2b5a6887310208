"""The rows: what is measured through whom, and the bars that underpass sets itself."""

import statistics

from . import wan
from .measures import Carried, Idle, Iperf, Ping, Wrk

OURS, TLS = "underpass", "underpass tls"
ENCRYPTED = ("rathole tls", "rathole noise", "haproxy tls", "ssh -R")


class Bar:
    """A figure of `ours` as a multiple of a peer's (the best of several), or by itself where there is no peer.

    `enough` is a value of the figure that meets the bar whatever the peer does.
    """

    def __init__(self, figure, at_least=None, at_most=None, than=(), ours=OURS, enough=None, stretch=False):
        self.figure, self.than, self.ours, self.enough, self.stretch = figure, than, ours, enough, stretch
        self.more, self.limit = at_least is not None, at_most if at_least is None else at_least

    def text(self):
        sign = "≥" if self.more else "≤"
        also = f" or {sign} {self.enough:g}" if self.enough is not None else ""
        return f"{sign} {self.limit:g}{' ×' if self.than else ''}{also}{' (stretch)' if self.stretch else ''}"

    def judge(self, samples):
        """What came out, from {tunnel: [figures of each round, or None]}; None where it cannot be told."""
        values = {name: [f and f.get(self.figure) for f in rounds] for name, rounds in samples.items()}
        medians = {name: statistics.median(known) for name, all in values.items() if (known := present(all))}
        ours, peers = medians.get(self.ours), [name for name in self.than if name in medians]
        if ours is None or (self.than and not peers):
            return None
        result = {"tunnel": self.ours, "figure": self.figure, "ours": ours, "bar": self.text(), "stretch": self.stretch}
        compared = ours
        if peers:
            peer = (max if self.more else min)(peers, key=medians.get)
            # Round by round: what else the machine did met both.
            pairs = [(a, b) for a, b in zip(values[self.ours], values[peer]) if a is not None and b]
            if not pairs:
                return None
            compared = statistics.median(a / b for a, b in pairs)
            result |= {"peer": peer, "theirs": medians[peer], "ratio": compared}
        meets = lambda value, limit: value >= limit if self.more else value <= limit
        enough = self.enough is not None and meets(ours, self.enough)
        return result | {"met": meets(compared, self.limit) or enough}


def present(values):
    return [value for value in values if value is not None]


class Row:
    def __init__(self, name, title, measure, tunnels, bars, link=None, rounds=None):
        self.name, self.title, self.measure, self.tunnels, self.bars = name, title, measure, tunnels, bars
        self.link, self.rounds = link, rounds


def carries(name, title, *arguments, bars):
    return Row(name, title, Iperf(*arguments), ("direct", OURS, "rathole", "bore", "ssh -R", "haproxy twice"), bars)


def encrypted(name, title, *arguments):
    return Row(f"tls-{name}", f"{title}, encrypted", Iperf(*arguments), (OURS, TLS, *ENCRYPTED), [
        Bar("rate", at_least=1.8, than=ENCRYPTED, ours=TLS), Bar("rate", at_least=0.6, than=[OURS], ours=TLS)])


def far(ms):
    link = ("--rate", "1G", "--delay", f"{ms / 2:g}ms")
    # Windows take their time to grow where the round trip is long.
    return Row(
        f"rtt-{ms}", f"one download over 1 Gbit/s with a round trip of {ms} ms", Iperf("-R", seconds=4, warm_up=3),
        ("direct", OURS), [Bar("rate", at_least=0.8, than=["direct"])], link)


def busy(name, title, *headers):
    return Row(name, f"{title}, beside a program for each core that only computes", Wrk(*headers, beside=True), HTTP, [
        Bar("rate", at_least=0.6, than=["rathole"]), Bar("p99", at_most=1.2, than=["rathole"])])


SINGLE = [
    Bar("rate", at_least=1.8, than=["rathole"]),
    Bar("rate", at_least=1.4, than=["bore"]),
    Bar("rate", at_least=1.0, than=["haproxy twice"], stretch=True),
]
HTTP = ("direct", OURS, "rathole", "bore", "haproxy twice")
NARROW = ("--rate", "200M", "--delay", "10ms")


def wide(name, workload, congestion, loss, *bars, tunnels=("direct", OURS, "rathole", "bore")):
    """A row over the emulated path of 100 Mbit/s and 40 ms; assets/bench/wan measures more of them."""
    workload = wan.WORKLOADS[workload]
    path = wan.Path(100, 40, congestion, loss, 100 if workload.name == "ping" else 50)
    title = f"{workload.title}; 100 Mbit/s, RTT 40 ms, {congestion}, {loss:g} % loss"
    return Row(f"wan-{name}", title, wan.Measure(workload, path), tunnels, bars)


PEERS = list(wan.PEERS)

ROWS = [
    carries("download", "one download", "-R", bars=SINGLE),
    carries("upload", "one upload", bars=SINGLE),
    carries("downloads", "eight downloads at once over two channels", "-R", "-P", "8",
            bars=[Bar("rate", at_least=1.3, than=["rathole", "bore"])]),
    Row("keep-alive", "HTTP, 1 KiB, 32 connections that stay", Wrk(), HTTP, [
        Bar("rate", at_least=1.05, than=["rathole"]), Bar("p99", at_most=1.0, than=["rathole"])]),
    Row("connections", "HTTP, a new connection for each request, 32 at once", Wrk("Connection: close"), HTTP, [
        Bar("rate", at_least=1.4, than=["rathole"]), Bar("p99", at_most=1.0, than=["rathole"])]),
    busy("keep-alive-busy", "HTTP over connections that stay"),
    busy("connections-busy", "HTTP over new connections", "Connection: close"),
    Row("round-trip", "a round trip of 64 bytes, one connection, nothing else", Ping(),
        ("direct", OURS, "rathole", "bore", "ssh -R", "haproxy twice"), [
            Bar("p50", at_most=1.05, than=["rathole"]), Bar("p99", at_most=1.05, than=["rathole"])]),
    Row("text", "one download in the text format", Iperf("-R"), (OURS, "underpass text"), [
        Bar("rate", at_least=4.4, ours="underpass text"),
        Bar("rate", at_least=0.3, than=[OURS], ours="underpass text")]),
    Row("beside-bulk", "a ping of 64 bytes beside four downloads", Ping(downloads=4, seconds=4, pause_us=1000),
        ("direct", OURS, "rathole", "bore", "ssh -R", "haproxy twice"), [
            Bar("p99", at_most=5), Bar("p99", at_most=0.1, than=["rathole"]),
            Bar("bulk", at_least=1.2, than=["rathole"], enough=10)]),
    Row("narrow", "a ping of 64 bytes beside eight downloads over 200 Mbit/s and 10 ms each way, beyond these 20 ms",
        Ping(downloads=8, seconds=8, pause_us=1000, beyond=20),
        (OURS, "underpass high", "rathole", "bore", "ssh -R"), [
            Bar("p99", at_most=10), Bar("p99", at_most=6, ours="underpass high"),
            Bar("p99", at_most=0.2, than=["ssh -R"])], NARROW),
    *map(far, (0, 10, 50, 100)),
    encrypted("download", "one download", "-R"),
    encrypted("downloads", "eight downloads at once over two channels", "-R", "-P", "8"),
    Row("tls-keep-alive", "HTTP, 1 KiB, 32 connections that stay, encrypted", Wrk(), (OURS, TLS), [
        Bar("rate", at_least=0.9, than=[OURS], ours=TLS)]),
    Row("tls-connections", "HTTP, a new connection for each request, encrypted", Wrk("Connection: close"), (OURS, TLS), [
        Bar("rate", at_least=0.9, than=[OURS], ours=TLS)]),
    Row("idle-memory", "memory of the server for an idle stream", Idle(), (OURS,), [
        Bar("each", at_most=16)], rounds=1),
    Row("flat-memory", "growth of the server while it carries much", Carried(), (OURS,), [
        Bar("growth", at_most=4)], rounds=1),
    wide("download", "download", "bbr", 0, Bar("rate", at_least=0.97, than=PEERS)),
    wide("download-loss", "download", "bbr", 1, Bar("rate", at_least=0.97, than=PEERS)),
    wide("upload-loss", "upload", "bbr", 1, Bar("rate", at_least=0.97, than=PEERS)),
    wide("downloads-loss", "downloads", "bbr", 1, Bar("rate", at_least=0.97, than=PEERS)),
    wide("download-cubic", "download", "cubic", 0.5, Bar("rate", at_least=1.8, than=PEERS)),
    wide("ping", "ping", "cubic", 0, Bar("p50", at_most=48), Bar("p99", at_most=55)),
    wide("ping-loss", "ping", "bbr", 0.5, Bar("p50", at_most=48), Bar("p99", at_most=100)),
    wide("keep-alive", "http", "cubic", 1, Bar("rate", at_least=0.97, than=["rathole"]), Bar("p50", at_most=44),
         Bar("p99", at_most=0.5, than=["rathole"])),
    wide("proxies", "proxies", "bbr", 0, Bar("share", at_least=0.3), tunnels=(OURS,)),
]
