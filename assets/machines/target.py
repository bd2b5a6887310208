#!/usr/bin/env python3
"""A web server for assets/machines/run: target.py PORT…

/hello answers with the port. /file/NAME is a file that arrives slowly until /finish/NAME is requested, and at once from
then on, so that a download lasts exactly as long as a test needs it.
"""

import collections, functools, hashlib, http.server, sys, threading

CHUNK, CHUNKS = 64 * 1024, 512
# With a chunk of 64 KiB this is 3 MB/s.
PAUSE = 0.02

finished = collections.defaultdict(threading.Event)


def chunk(name, number):
    return hashlib.sha256(f"{name} {number}".encode()).digest() * (CHUNK // 32)


@functools.cache
def sha256(name):
    """Returns the digest of a whole file."""
    digest = hashlib.sha256()
    for number in range(CHUNKS):
        digest.update(chunk(name, number))
    return digest.hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, action, *rest = self.path.split("/")
        if action == "file":
            self.download(rest[0])
        else:
            if action == "finish":
                finished[rest[0]].set()
            body = f"hello from port {self.server.server_port}\n".encode()
            self.head(len(body))
            self.wfile.write(body)

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def download(self, name):
        self.head(CHUNK * CHUNKS)
        try:
            for number in range(CHUNKS):
                # The last one is withheld as long as it takes.
                finished[name].wait(None if number == CHUNKS - 1 else PAUSE)
                self.wfile.write(chunk(name, number))
        except ConnectionError:
            # The user is gone.
            self.close_connection = True

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    servers = [http.server.ThreadingHTTPServer(("", int(port)), Handler) for port in sys.argv[1:]]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
