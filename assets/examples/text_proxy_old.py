#!/usr/bin/env python3
"""A proxy in the old text format of three fields, where each user has one stream:
text_proxy_old.py SERVER:PORT PUBLIC_PORT TARGET_HOST:PORT [TOKEN]"""
import asyncio, socket, struct, sys
from base64 import b64decode, b64encode

def on_close(sink, reset):
    sink.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

async def main(server, port, target, token=""):
    streams, (server, target) = {}, (address.rsplit(":", 1) for address in (server, target))
    lines, tunnel = await asyncio.open_connection(*server, limit=2**21)

    async def send(user, action, data=b""):
        tunnel.write(f"{user}|{action}|{b64encode(data).decode()}\n".encode())
        await tunnel.drain()  # a slow tunnel slows the targets: nothing piles up here

    async def upload(user, inbox, sink):
        while data := await inbox.get():
            sink.write(data)
            await sink.drain()
            if inbox.qsize() == 8: await send(user, "STREAM_RESUME")
        sink.write_eof()  # the user has sent its last byte; the target may go on

    async def serve(user, inbox):
        uploading = sink = None
        try:
            source, sink = await asyncio.wait_for(asyncio.open_connection(*target), 10)
            on_close(sink, reset=True)  # until all went well: what was cut off may not look finished
            await send(user, "STREAM_START")  # accepts
            uploading = asyncio.create_task(upload(user, inbox, sink))
            while data := await source.read(32768):
                await send(user, "STREAM_DATA", data)
            await send(user, "STREAM_END")
            await uploading
            on_close(sink, reset=False)
            sink.close()
        except (Exception, asyncio.CancelledError) as error:
            if uploading: uploading.cancel()
            if sink: sink.transport.abort()
            await send(user, "STREAM_RESET", repr(error).encode())
        if streams[user][0] is inbox: del streams[user]  # and not the user's next stream

    if token: await send("", "AUTH", token.encode())
    await send("", f"ADDPROXY:{port}")
    async for line in lines:
        user, action, data = line.decode().strip().split("|")
        inbox, serving = streams.get(user, (None, None))
        if action == "PING":
            await send(user, "PONG", b64decode(data))
        elif action == "STREAM_START":
            streams[user] = (inbox := asyncio.Queue()), asyncio.create_task(serve(user, inbox))
        elif inbox and (action == "STREAM_END" or action == "STREAM_DATA" and data):
            inbox.put_nowait(b64decode(data))
            if inbox.qsize() == 16: await send(user, "STREAM_PAUSE")  # and a slow target its user
        elif serving and action in ("STREAM_RESET", "ERROR"):
            serving.cancel()
        elif not user and action in ("RESPONSE", "ERROR"):
            answer = b64decode(data).decode()
            print("serving", answer, flush=True) if action == "RESPONSE" else sys.exit(f"refused: {answer}")
    sys.exit("the server closed the tunnel")

asyncio.run(main(*sys.argv[1:]))
