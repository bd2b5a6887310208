#!/usr/bin/env python3
"""A proxy in the text format: text_proxy.py SERVER:PORT PUBLIC_PORT TARGET_HOST:PORT [TOKEN]"""
import asyncio, socket, struct, sys
from base64 import b64decode, b64encode

def on_close(sink, reset):
    sink.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

async def main(server, port, target, token=""):
    streams, (server, target) = {}, (address.rsplit(":", 1) for address in (server, target))
    lines, tunnel = await asyncio.open_connection(*server, limit=2**21)

    async def send(key, action, data=b""):
        tunnel.write(f"{key}|{action}|{b64encode(data).decode()}\n".encode())
        await tunnel.drain()  # a slow tunnel slows the targets: nothing piles up here

    async def upload(key, inbox, sink):
        while data := await inbox.get():
            sink.write(data)
            await sink.drain()
            if inbox.qsize() == 8: await send(key, "STREAM_RESUME")
        sink.write_eof()  # the user has sent its last byte; the target may go on

    async def serve(key, inbox):
        uploading = sink = None
        try:
            source, sink = await asyncio.wait_for(asyncio.open_connection(*target), 10)
            on_close(sink, reset=True)  # until all went well: what was cut off may not look finished
            await send(key, "STREAM_START")  # accepts
            uploading = asyncio.create_task(upload(key, inbox, sink))
            while data := await source.read(32768):
                await send(key, "STREAM_DATA", data)
            await send(key, "STREAM_END")
            await uploading
            on_close(sink, reset=False)
            sink.close()
        except (Exception, asyncio.CancelledError) as error:
            if uploading: uploading.cancel()
            if sink: sink.transport.abort()
            await send(key, "STREAM_RESET", repr(error).encode())
        del streams[key]

    if token: await send("|0", "AUTH", token.encode())
    await send("|0", f"ADDPROXY:{port}:default:{target[1]}")
    async for line in lines:
        key, action, data = line.decode().strip().rsplit("|", 2)
        inbox, serving = streams.get(key, (None, None))
        if action == "PING":
            await send(key, "PONG", b64decode(data))
        elif action == "STREAM_START":
            streams[key] = (inbox := asyncio.Queue()), asyncio.create_task(serve(key, inbox))
        elif inbox and (action == "STREAM_END" or action == "STREAM_DATA" and data):
            inbox.put_nowait(b64decode(data))
            if inbox.qsize() == 16: await send(key, "STREAM_PAUSE")  # and a slow target its user
        elif serving and action in ("STREAM_RESET", "ERROR"):
            serving.cancel()
        elif key == "|0" and action in ("RESPONSE", "ERROR"):
            answer = b64decode(data).decode()
            print("serving", answer, flush=True) if action == "RESPONSE" else sys.exit(f"refused: {answer}")
    sys.exit("the server closed the tunnel")

asyncio.run(main(*sys.argv[1:]))
