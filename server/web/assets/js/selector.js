// SPDX-License-Identifier: Apache-2.0

// Label selectors: {process_executable_name="bash", thread_name=~"w.*"}.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#time-series-selectors
// The server decides what is valid; here they are read only as far as chips
// and completion need.

/**
 * @typedef {object} Matcher
 * @property {string} name
 * @property {string} op
 * @property {string} value
 */

const ESCAPES = { a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\", '"': '"', "'": "'" };

/** Reads one token after another; each method returns null if it is not there. */
class Scanner {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  /** @param {RegExp} expression with the flag y */
  take(expression) {
    expression.lastIndex = this.at;
    const found = expression.exec(this.text);
    if (found) this.at += found[0].length;
    return found;
  }

  space() {
    this.take(/\s*/y);
    return this.at === this.text.length;
  }
}

const NAME = /[a-zA-Z_]\w*/y;
const OPERATOR = /=~|!~|!=|=/y;
const STRING = /"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|`([^`]*)`/y;
const OPEN_STRING = /["'`](.*)/sy;

/**
 * Reads a whole selector.
 * @returns {Matcher[]|null} null if it is not one, or uses an escape that is
 *   not read here
 */
export function parseSelector(text) {
  if (text.trim() === "") return [];
  const scanner = new Scanner(text.trim());
  if (!scanner.take(/\{/y)) return null;
  /** @type {Matcher[]} */
  const matchers = [];
  for (;;) {
    scanner.space();
    if (scanner.take(/\}/y)) return scanner.space() ? matchers : null;
    const matcher = scanMatcher(scanner);
    if (!matcher) return null;
    matchers.push(matcher);
    scanner.space();
    if (!scanner.take(/,/y) && scanner.text[scanner.at] !== "}") return null;
  }
}

function scanMatcher(scanner) {
  const name = scanner.take(NAME);
  scanner.space();
  const op = scanner.take(OPERATOR);
  scanner.space();
  const literal = op && scanner.take(STRING);
  if (!name || !literal) return null;
  const value = literal[3] ?? unescape(literal[1] ?? literal[2]);
  return value === null ? null : { name: name[0], op: op[0], value };
}

/** Resolves the escapes of one character and of Unicode; null for others. */
function unescape(text) {
  let known = true;
  const value = text.replace(/\\(?:u([0-9a-fA-F]{4})|(.))/gs, (_, code, letter) => {
    if (code) return String.fromCharCode(parseInt(code, 16));
    if (!(letter in ESCAPES)) known = false;
    return ESCAPES[letter];
  });
  return known ? value : null;
}

export function quote(value) {
  const letters = { "\n": "n", "\r": "r" };
  return `"${value.replace(/[\\"\n\r]/g, (c) => `\\${letters[c] ?? c}`)}"`;
}

export function formatMatcher({ name, op, value }) {
  return `${name}${op}${quote(value)}`;
}

/** @param {Matcher[]} matchers */
export function formatSelector(matchers) {
  return matchers.length === 0 ? "" : `{${matchers.map(formatMatcher).join(", ")}}`;
}

/** A selector that also asks for name="value", in place of what it asked of name. */
export function withMatcher(selector, name, value) {
  const others = (parseSelector(selector) ?? []).filter((m) => m.name !== name);
  return formatSelector([...others, { name, op: "=", value }]);
}

/**
 * @typedef {object} Gap the place in a selector where somebody types
 * @property {"name"|"value"} kind
 * @property {string} prefix what is typed of it so far
 * @property {number} from where it begins, its quote included
 * @property {string} name of the label, for a value
 * @property {string} op of the matcher, for a value
 * @property {Matcher[]} before the matchers before it
 */

/**
 * Finds out what is being typed at the end of text.
 * @returns {Gap|null} null where neither a name nor a value can stand
 */
export function findGap(text) {
  const scanner = new Scanner(text);
  scanner.space();
  /** @type {Matcher[]} */
  const before = [];
  if (!scanner.take(/\{/y) && scanner.at < text.length) scanner.at = 0;
  for (;;) {
    const gap = scanGap(scanner, before);
    if (gap !== undefined) return gap;
    scanner.space();
    if (!scanner.take(/,/y)) return null;
  }
}

/** Reads a matcher into before, or returns the gap inside it. */
function scanGap(scanner, before) {
  scanner.space();
  const from = scanner.at;
  const name = scanner.take(NAME)?.[0] ?? "";
  if (scanner.at === scanner.text.length) return { kind: "name", prefix: name, from, name: "", op: "", before };
  scanner.space();
  const op = scanner.take(OPERATOR)?.[0];
  if (name === "" || !op) return null;
  scanner.space();
  const start = scanner.at;
  const literal = scanner.take(STRING);
  if (literal) {
    before.push({ name, op, value: literal[3] ?? unescape(literal[1] ?? literal[2]) ?? "" });
    return undefined;
  }
  const open = scanner.take(OPEN_STRING);
  if (scanner.at < scanner.text.length) return null;
  return { kind: "value", prefix: open?.[1] ?? "", from: start, name, op, before };
}

/** The text that stands for a value in a matcher: escaped where op wants a pattern. */
export function literalFor(op, value) {
  return quote(op.endsWith("~") ? value.replace(/[\\^$.|?*+()[\]{}]/g, "\\$&") : value);
}
