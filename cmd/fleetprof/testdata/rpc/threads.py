# SPDX-License-Identifier: Apache-2.0
"""A thread per connection: threads.py PORT [CERTIFICATE KEY]."""
import http.server
import ssl
import sys
import threading
import time

import truth


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        letter = truth.route(self.command, self.path)
        if letter is None:
            return self.send_error(404)
        if "X-Light" in self.headers:
            return self.answer(letter + TEXT)
        with truth.named("work-" + letter):
            WORK[letter]()
        self.answer(letter)
        with truth.named("backgrnd"):  # the answer is written
            truth.burn(1)

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = handle_any

    def log_message(self, *_):
        pass


# For requests that ask for no work.
TEXT = " Lorem ipsum dolor sit amet." * 2800


def sliced():
    for _ in range(4):
        truth.burn(1)
        time.sleep(0.001)


WORK = {
    "a": lambda: truth.burn(2),
    "b": lambda: truth.burn(8),
    "c": sliced,
    "d": lambda: sorted(truth.burn(1) for _ in range(4)),
}


def background():
    truth.name_thread("backgrnd")
    while True:
        truth.burn(3)
        time.sleep(0.04)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def get_request(self):
        conn, address = super().get_request()
        if TLS:  # the connection's own thread shakes hands, with its first read
            conn = TLS.wrap_socket(conn, server_side=True, do_handshake_on_connect=False)
        return conn, address


TLS = None
if len(sys.argv) > 2:
    TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLS.load_cert_chain(sys.argv[2], sys.argv[3])

server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=background, daemon=True).start()
server.serve_forever()
