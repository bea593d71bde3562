// SPDX-License-Identifier: Apache-2.0
// An event loop: server.js PORT sync|async [CERTIFICATE KEY]. The title of the process is the name of its main thread.
'use strict';
const http = require('node:http');
const https = require('node:https');
const {readFileSync} = require('node:fs');
const {setTimeout: pause, setImmediate: turn} = require('node:timers/promises');

const routes = [
  ['GET', /^\/work\/[^/]+$/, 'a'],
  ['GET', /^\/tree\/[^/]+\/leaves$/, 'b'],
  ['POST', /^\/orders\/[^/]+\/items$/, 'c'],
  ['GET', /^\/files\/.+$/, 'd'],
];

function burn(ms) { // about so many milliseconds
  let x = 1;
  for (let i = 0; i < ms * 300_000; i++) x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
  return x;
}

function named(name, ms) {
  process.title = name;
  burn(ms);
  process.title = 'idle';
}

async function slices(name, n, between) {
  for (let i = 0; i < n; i++) {
    named(name, 1);
    await between();
  }
}

const work = {
  sync: {
    a: () => named('work-a', 2),
    b: () => named('work-b', 8),
    c: () => named('work-c', 4),
    d: () => named('work-d', 1),
  },
  async: {
    a: () => named('work-a', 2),
    b: () => slices('work-b', 4, () => pause(1)),
    c: () => slices('work-c', 4, () => Promise.resolve()),
    d: () => Promise.all([slices('work-d', 2, turn), slices('work-d', 2, () => pause(2))]),
  },
}[process.argv[3]];

async function handle(request, response) {
  const path = request.url.split('?')[0];
  const route = routes.find(([method, pattern]) => method === request.method && pattern.test(path));
  if (!route) {
    response.writeHead(404).end();
    return;
  }
  const done = work[route[2]]();
  if (done) await done;
  response.end(route[2]);
}

function serve(request, response) {
  if (request.method !== 'POST') return handle(request, response);
  request.resume().on('end', () => handle(request, response));
}

const [certificate, key] = process.argv.slice(4);
const server = key ? https.createServer({cert: readFileSync(certificate), key: readFileSync(key)}, serve) : http.createServer(serve);
setInterval(() => named('backgrnd', 3), 40);
process.title = 'idle';
server.listen(Number(process.argv[2]), '127.0.0.1', 128);
