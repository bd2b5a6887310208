#!/usr/bin/env python3
"""Captures what a server and a proxy of this version exchange, for tests/compatibility/VERSION/captured:

    tests/compatibility/capture.py target/release/underpass tests/compatibility/0.1/captured

The programs run on loopback without TLS, so that the bytes can be read. A relay between them records what each sends: `wire.hex` of
the binary format and `text.hex` of the text format, `>` for the proxy and `<` for the server. `control.jsonl` has the lines of a
client of the server's control socket and their answers, and `recording.upr` is the file that `--record` has written meanwhile.
What is captured of a version is never captured again, and never changed."""
import atexit, json, os, pathlib, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time

TOKEN = "vK8dR2xQ9mWz4LpT7cYb"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nhello, tunnel\n"
LIMIT = 30


class Program:
    """A process whose standard error is read line by line."""

    def __init__(self, *args):
        environment = {**os.environ, "UNDERPASS_TOKEN": TOKEN}
        self.process = subprocess.Popen(args, stderr=subprocess.PIPE, env=environment, text=True)
        atexit.register(self.process.kill)

    def line(self, pattern):
        """Waits for a line, and returns the first group of the pattern in it."""
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                # Read on, so that the program never waits for its log.
                return found.group(1)
        sys.exit(f"the program ended without a line {pattern}")

    def end(self):
        threading.Thread(target=lambda: list(self.process.stderr), daemon=True).start()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LIMIT) == 0


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def relay(port, recorded):
    """Starts a relay to a port for one connection. Appends (direction, bytes) for each read to `recorded`."""
    listener, own_port = listen()

    def forward(source, sink, direction):
        while data := source.recv(65536):
            recorded.append((direction, data))
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def run():
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=forward, args=(near, far, ">"), daemon=True).start()
        forward(far, near, "<")

    threading.Thread(target=run, daemon=True).start()
    return own_port


def origin():
    """Starts a target that answers each request in the same way."""
    listener, port = listen()

    def run():
        while True:
            user, _ = listener.accept()
            with user:
                user.recv(65536)
                user.sendall(ANSWER)

    threading.Thread(target=run, daemon=True).start()
    return port


def fetch(port):
    """Sends a request to a public port, and returns the answer, which is empty if the connection is reset."""
    answer = b""
    with socket.create_connection(("127.0.0.1", int(port)), LIMIT) as user:
        try:
            user.sendall(b"GET /captured HTTP/1.1\r\nHost: tunnel.example\r\nConnection: close\r\n\r\n")
            while data := user.recv(65536):
                answer += data
        except ConnectionError:
            pass
    return answer


def write_session(path, recorded):
    """Writes one line for the bytes that one side has sent before the other did."""
    lines = []
    for direction, data in recorded:
        if lines and lines[-1][0] == direction:
            lines[-1][1].extend(data)
        else:
            lines.append((direction, bytearray(data)))
    path.write_text("".join(f"{direction}{data.hex()}\n" for direction, data in lines))


class Control:
    """A connection to the control socket, whose lines are recorded in both directions."""

    def __init__(self, path):
        self.lines, self.socket = [], socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.reader = self.socket.makefile()
        self.read()

    def read(self):
        line = self.reader.readline()
        self.lines.append("<" + line)
        return json.loads(line)

    def send(self, **request):
        line = json.dumps(request, separators=(",", ":")) + "\n"
        self.lines.append(">" + line)
        self.socket.sendall(line.encode())

    def ask(self, number, do, **rest):
        self.send(id=number, do=do, **rest)
        return self.read()


def main(binary, out):
    out = pathlib.Path(out)
    out.mkdir(parents=True)
    work = pathlib.Path(tempfile.mkdtemp())
    server = Program(binary, "server", "--plain", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--state-dir",
                     str(work / "state"), "--record", str(work / "records"), "--control", str(work / "server.sock"))
    tunnel = int(server.line(r"127\.0\.0\.1:(\d+)"))
    target, (closed, closed_port) = origin(), listen()
    closed.close()

    # The binary format: two services, of which one target refuses, and one is removed.
    wire = []
    first, second = (f'[[service]]\npublic = 0\nto = "127.0.0.1:{port}"\n' for port in (target, closed_port))
    common = f'server = "127.0.0.1:{relay(tunnel, wire)}"\nplain = true\nname = "edge-1"\nchannels = 1\ncontrol = "off"\n'
    file = work / "proxy.toml"
    file.write_text(common + 'weight = 3\n' + first.replace("\nto", '\ndeny = "192.0.2.0/24"\nto') + second)
    file.chmod(0o600)
    proxy = Program("setsid", binary, "proxy", "--config", str(file))
    ports = [proxy.line(rf"serving (\d+):default.*:{port}$") for port in (target, closed_port)]
    control = Control(str(work / "server.sock"))
    control.send(id=1, do="watch", credit=1000, interval_ms=100, log=True)
    assert "snapshot" in control.read()
    assert fetch(ports[0]) == ANSWER and fetch(ports[1]) == b""
    ended = 0
    while ended < 2:
        ended += "stream_ended" in str(control.read().get("event", ""))
    while "changes" not in control.read():
        pass
    file.write_text(common + 'weight = 3\n' + first.replace("\nto", '\ndeny = "192.0.2.0/24"\nto'))
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line(r"(service \d+:default removed)")
    requests = Control(str(work / "server.sock"))
    for number, do in enumerate(["state", "totals", "ps", "proxies", "channels", "services", "users", "bans"], 2):
        assert "ok" in requests.ask(number, do), do
    assert "ok" in requests.ask(10, "weight", proxy="edge-1", weight=5)
    assert "error" in requests.ask(11, "kill", stream="3F9A1C:1")
    proxy.end()

    # The text format.
    lines = []
    proxy = Program(binary, "proxy", "--plain", "--format", "text", "--server", f"127.0.0.1:{relay(tunnel, lines)}", "--port", "0",
                    "--to", f"127.0.0.1:{target}", "--name", "edge-2", "--control", "off")
    assert fetch(proxy.line(r"serving (\d+):default")) == ANSWER
    proxy.end()
    server.end()

    write_session(out / "wire.hex", wire)
    write_session(out / "text.hex", lines)
    (out / "control.jsonl").write_text("".join(control.lines + requests.lines))
    (recording,) = (work / "records").glob("*.upr")
    shutil.copy(recording, out / "recording.upr")
    shutil.rmtree(work)


main(*sys.argv[1:])
