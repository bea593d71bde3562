# SPDX-License-Identifier: Apache-2.0
"""Threads that take connections from one Unix socket: drops.py PATH.

A request with the header X-Drop is not answered: its connection is closed, and the thread works on at
something else.
"""
import socket
import sys
import threading

import truth

WORK = {"a": 2, "b": 8, "c": 4, "d": 3}


def read_request(conn):
    data = b""
    while b"\r\n\r\n" not in data:
        more = conn.recv(4096)
        if not more:
            return None
        data += more
    return data.decode()


def serve(listener):
    while True:
        conn, _ = listener.accept()
        with conn:
            request = read_request(conn)
            if request is None:
                continue
            method, path, _ = request.split(" ", 2)
            letter = truth.route(method, path)
            with truth.named("work-" + letter):
                truth.burn(WORK[letter])
            if "X-Drop" not in request:
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n" + letter.encode())
        with truth.named("backgrnd"):
            truth.burn(10)


listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(128)
for _ in range(3):
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
serve(listener)
