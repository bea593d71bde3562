# SPDX-License-Identifier: Apache-2.0
"""All requests in one event loop: loop.py PORT."""
import asyncio
import sys

import truth


async def whole(name, ms):
    with truth.named(name):
        truth.burn(ms)


async def slices(name, n, pause):
    """Works in slices; others go on between them."""
    for _ in range(n):
        with truth.named(name):
            truth.burn(1)
        await asyncio.sleep(pause)


async def children(name):
    await asyncio.gather(slices(name, 2, 0.001), slices(name, 2, 0))


WORK = {
    "a": lambda: whole("work-a", 2),
    "b": lambda: slices("work-b", 6, 0),
    "c": lambda: slices("work-c", 4, 0.001),
    "d": lambda: children("work-d"),
}


async def connection(reader, writer):
    try:
        while await request(reader, writer):
            pass
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is gone
    finally:
        writer.close()


async def request(reader, writer):
    """Answers one request. Returns whether there may be more."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.split("\r\n")
    method, target, _ = line.split(" ")
    headers = dict(f.lower().split(": ", 1) for f in fields if f)
    await reader.readexactly(int(headers.get("content-length", 0)))
    letter = truth.route(method, target)
    status = "200 OK" if letter else "404 Not Found"
    if letter:
        await WORK[letter]()
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\n{letter or '-'}".encode())
    await writer.drain()
    return headers.get("connection") != "close"


async def background():
    while True:
        with truth.named("backgrnd"):
            truth.burn(3)
        await asyncio.sleep(0.04)


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", int(sys.argv[1]), backlog=128)
    task = asyncio.create_task(background())
    await asyncio.gather(server.serve_forever(), task)


truth.name_thread("idle")
asyncio.run(main())
