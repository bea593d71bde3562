# SPDX-License-Identifier: Apache-2.0
# Recursion through C (the key function of sorted), and JSON there and back.
import functools
import json


def key(depth):
    return sorted([depth], key=lambda n: key(n - 1) if n else 0)[0]


data = {str(i): [i, i / 7, {"name": "x" * (i % 50)}] for i in range(300)}
print("ready", flush=True)
while True:
    key(20)
    functools.reduce(lambda a, b: a + b, range(1000))
    json.loads(json.dumps(data, indent=1))
