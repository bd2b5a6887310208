#!/usr/bin/env python3
"""A proxy in the old text format of three fields, one stream of a user at a time:
text_proxy_old.py SERVER:PORT PUBLIC_PORT TARGET_HOST:PORT [TOKEN]"""
import asyncio, socket, struct, sys
from base64 import b64decode, b64encode

def on_close(writer, reset):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

async def main(server, public_port, target, token=""):
    streams, lock, address = {}, asyncio.Lock(), lambda text: text.rsplit(":", 1)
    reader, tunnel = await asyncio.open_connection(*address(server), limit=2**21)

    async def send(user, action, data=b""):
        async with lock:  # and drained: a slow tunnel slows the targets, nothing piles up here
            tunnel.write(f"{user}|{action}|{b64encode(data).decode()}\n".encode())
            await tunnel.drain()

    async def download(user, source):
        while data := await source.read(32768):
            await send(user, "STREAM_DATA", data)
        await send(user, "STREAM_END")

    async def upload(inbox, sink):
        while data := await inbox.get():
            sink.write(data)
            await sink.drain()
        sink.write_eof()  # the user's end; the target may go on

    async def serve(user, inbox):
        tasks, sink = [], None
        try:
            source, sink = await asyncio.wait_for(asyncio.open_connection(*address(target)), 10)
            on_close(sink, reset=True)  # until all went well: what failed may not look finished
            await send(user, "STREAM_START")  # accepts
            tasks += map(asyncio.create_task, (download(user, source), upload(inbox, sink)))
            await asyncio.gather(*tasks)
            on_close(sink, reset=False)
            sink.close()
        except BaseException as error:
            if sink:
                sink.transport.abort()
            if not isinstance(error, asyncio.CancelledError):
                await send(user, "STREAM_RESET", repr(error).encode())
        finally:
            [task.cancel() for task in tasks]
            if streams.get(user, [None])[0] is inbox:  # and not the next stream of this user
                del streams[user]
            while not inbox.empty():  # lets go of a line that waits for room
                inbox.get_nowait()

    if token:
        await send("", "AUTH", token.encode())
    await send("", f"ADDPROXY:{public_port}")
    async for line in reader:
        user, action, data = line.decode().strip().split("|")
        if action == "PING":
            await send(user, "PONG", b64decode(data))
        elif action == "RESPONSE" and not user:
            print("serving", b64decode(data).decode(), flush=True)
        elif action == "ERROR" and not user:
            sys.exit(f"refused: {b64decode(data).decode()}")
        elif action == "STREAM_START":
            inbox = asyncio.Queue(16)  # when it is full, the tunnel waits for the target
            streams[user] = inbox, asyncio.create_task(serve(user, inbox))
        elif user in streams and (action == "STREAM_END" or action == "STREAM_DATA" and data):
            await streams[user][0].put(b64decode(data))
        elif user in streams and action in ("STREAM_RESET", "ERROR", "EXIT"):
            streams.pop(user)[1].cancel()
    sys.exit("the server closed the tunnel")

asyncio.run(main(*sys.argv[1:]))
