#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes testdata/host.pb.gz anew: profiles this host under a mixed load (the Go
# compiler, Python, Node.js, nginx, a shell) and condenses what was seen.
# As root, at the top of the repository: .ci/load/record.sh [SECONDS]
set -euo pipefail

seconds=${1:-300}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/profiles" "$work/site"
CGO_ENABLED=0 go build -o "$work/" ./cmd/fleetprof ./.ci/load
head -c 20000 /dev/urandom | base64 >"$work/site/file"

cat >"$work/nginx.conf" <<END
daemon off; pid $work/nginx.pid; error_log /dev/null; worker_processes 2;
events {}
http {
  access_log off; client_body_temp_path $work/body; proxy_temp_path $work/proxy;
  fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s; gzip on; gzip_types text/plain; default_type text/plain;
  server {
    listen 127.0.0.1:18080; root $work/site;
    location /python { proxy_pass http://127.0.0.1:18081; }
    location /node { proxy_pass http://127.0.0.1:18082; }
  }
}
END
cat >"$work/shop.py" <<'END'
import hashlib, http.server, json, random, re, socketserver

class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        orders = [{"id": random.randrange(1 << 30), "lines": [{"sku": "sku-%d" % random.randrange(9999), "n": i} for i in range(20)]} for _ in range(40)]
        text = json.dumps(sorted(orders, key=lambda o: o["id"]), indent=random.choice([None, 1]))
        skus = re.findall(r'"sku": "(sku-\d+)"', text)
        body = json.dumps({"n": len(set(skus)), "sum": hashlib.sha256(text.encode()).hexdigest()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
Server(("127.0.0.1", 18081), Shop).serve_forever()
END
cat >"$work/api.js" <<'END'
const http = require('http'), zlib = require('zlib'), crypto = require('crypto');
http.createServer((req, res) => {
  const rows = Array.from({length: 300}, (_, i) => ({i, key: crypto.randomBytes(6).toString('hex')}));
  rows.sort((a, b) => a.key < b.key ? -1 : 1);
  const text = JSON.stringify(rows.map(r => ({...r, path: r.key.replace(/[0-9]+/g, '/')})));
  zlib.gzip(text, (_, out) => res.end(crypto.createHash('sha1').update(out).digest('hex')));
}).listen(18082, '127.0.0.1');
END
cat >"$work/client.js" <<'END'
const http = require('http'), agent = new http.Agent({keepAlive: true, maxSockets: 4});
const paths = ['/file', '/file', '/python', '/node'];
function next(i) {
  http.get({port: 18080, host: '127.0.0.1', path: paths[i % paths.length], agent}, r => { r.resume(); r.on('end', () => next(i + 1)); })
    .on('error', () => setTimeout(next, 100, i + 1));
}
for (let i = 0; i < 4; i++) next(i);
END

nginx -c "$work/nginx.conf" & python3 "$work/shop.py" & node "$work/api.js" & node "$work/client.js" &
while :; do GOCACHE=$(mktemp -d -p "$work") go build -o /dev/null ./server/columns ./wire; done &
while :; do find /usr/share/doc -name '*.gz' | head -200 | xargs -n 20 gzip -dc | sort | md5sum >/dev/null; sleep 1; done &

# 499 Hz on two CPUs gives as many samples as 99 Hz on ten.
"$work/fleetprof" agent --store="dir:$work/profiles" --frequency=499 --cpu-budget=0 --hostname=host & agent=$!
sleep "$seconds"
kill -INT $agent; wait $agent || true
"$work/load" condense "$work/profiles" .ci/load/testdata/host.pb.gz
