// SPDX-License-Identifier: Apache-2.0
// Functions that burn CPU time in known parts: it prints how much each had, in microseconds.
// To be run without inlining.
'use strict';

function spin(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum = (sum * 31 + i) | 0;
  return sum;
}
const work = {
  alpha(n) { return spin(n) + 1; },
  beta(n) { return spin(n) + 2; },
  get gamma() { return spin(400000) + 3; },
};
const used = { alpha: 0, beta: 0, 'get gamma': 0 };

function measured(name, f) {
  const begin = process.cpuUsage();
  const result = f();
  const end = process.cpuUsage(begin);
  used[name] += end.user + end.system;
  return result;
}

function round() {
  return measured('alpha', () => work.alpha(2400000)) ^ measured('beta', () => work.beta(1200000)) ^
    measured('get gamma', () => work.gamma);
}

for (let i = 0; i < 20; i++) round(); // compiled by then
for (const name in used) used[name] = 0;
console.log('ready');
require('fs').readSync(0, Buffer.alloc(1));
const end = Date.now() + 4000;
let sum = 0;
while (Date.now() < end) sum ^= round();
console.log(JSON.stringify(used));
