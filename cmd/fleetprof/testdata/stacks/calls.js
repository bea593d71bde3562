// SPDX-License-Identifier: Apache-2.0
// Recursion in JavaScript, a sort that calls back, JSON there and back. Compiled
// functions lie in anonymous memory; interpreted ones show as the interpreter.
// To be run without inlining.
'use strict';
const interpreted = 'Builtins_InterpreterEntryTrampoline';
const compiled = process.execArgv.includes('--jitless') ? interpreted : '[anon]';
const depth = 40;
const data = Array.from({ length: 100 }, (_, i) => ({ i, name: 'x'.repeat((i * 7919) % 50) }));

function burn() {
  let sum = 0;
  for (let i = 0; i < 20000; i++) sum = (sum * 31 + i) | 0;
  return sum;
}

function descend(left) {
  return left === 0 ? burn() : descend(left - 1) + 1;
}

function compare(a, b) {
  let sum = a.name.length - b.name.length;
  for (let i = 0; i < 200; i++) sum = (sum * 31) | 0;
  return sum;
}

// It says that it is ready when all has been compiled.
function run(warm) {
  for (let i = 0; ; i++) {
    if (i === warm) console.log('ready');
    descend(depth);
    [...data].sort(compare);
    JSON.parse(JSON.stringify(data));
  }
}

Error.stackTraceLimit = Infinity;
const outer = new Error().stack.trimEnd().split('\n').length - 1;
// The interpreter's code for one instruction often has no frame of its own, and
// nothing says so: then a walk misses the function that it works for.
const missed = compiled === interpreted ? [depth + 1] : [];
for (const first of [interpreted, compiled]) { // run may be compiled later than others
  for (const count of [0, 1, depth + 2, ...missed]) {
    console.log('=' + [...Array(outer).fill(interpreted), first, ...Array(count).fill(compiled)].join(';'));
  }
}
run(compiled === interpreted ? 1 : 500);
