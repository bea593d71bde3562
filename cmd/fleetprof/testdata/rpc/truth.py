# SPDX-License-Identifier: Apache-2.0
"""What the servers in Python share: work, and the name of the thread while at it."""
import contextlib
import ctypes
import re

# PyDLL keeps the lock of the interpreter: a call that gave it up would let another thread go on.
_prctl = ctypes.PyDLL(None).prctl
_PR_SET_NAME = 15

_ROUTES = (
    ("GET", re.compile(r"/work/[^/]+"), "a"),
    ("GET", re.compile(r"/tree/[^/]+/leaves"), "b"),
    ("POST", re.compile(r"/orders/[^/]+/items"), "c"),
    ("GET", re.compile(r"/files/.+"), "d"),
)


def route(method, target):
    """The letter of the route, or None."""
    path = target.partition("?")[0]
    return next((letter for m, p, letter in _ROUTES if m == method and p.fullmatch(path)), None)


def name_thread(name):
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@contextlib.contextmanager
def named(name):
    name_thread(name)
    try:
        yield
    finally:
        name_thread("idle")


def burn(ms):
    """Works for about so many milliseconds."""
    x = 1
    for _ in range(ms * 8_000):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x
