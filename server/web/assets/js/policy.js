// SPDX-License-Identifier: Apache-2.0

// The policy: rules that say what is collected. Rules end by the server's clock.

/**
 * @typedef {object} Rule
 * @property {string} selector
 * @property {string} what it does, in words
 * @property {boolean} boost whether it asks for a frequency
 * @property {number} until when it ends, in milliseconds since 1970; Infinity is never
 * @property {string} reason
 * @property {string} by
 * @property {object} source the rule as the server has it
 */

/**
 * @typedef {object} Policy
 * @property {number} version 0 is none
 * @property {string} tag names the version, for If-Match
 * @property {Rule[]} rules in their order, those that have expired since too
 * @property {(now: number) => number} clock gives the server's time for a
 *   reading of performance.now(), in milliseconds
 */

/**
 * Reads the answer of /api/v1/policy. The server tells its time to a second, and
 * it is counted on from there, as agents do: the clock of this machine may be wrong.
 * @param {{body: any, headers: Headers}} answer
 * @param {number} now reading of performance.now() when the answer came
 * @returns {Policy}
 * @throws {Error} if it is malformed
 */
export function parsePolicy({ body, headers }, now) {
  const date = Date.parse(headers.get("Date"));
  const tag = headers.get("ETag") ?? "";
  if (!Array.isArray(body?.rules) || !Number.isFinite(date) || tag === "") {
    throw new Error("read policy: rules, Date or ETag are missing");
  }
  return {
    version: Number(body.version),
    tag,
    rules: body.rules.map(parseRule),
    clock: (later) => date + (later - now),
  };
}

function parseRule(source, index) {
  const { selector, until, reason = "", by = "" } = Object(source);
  const end = until === undefined ? Infinity : Date.parse(until);
  const what = action(Object(source));
  if (typeof selector !== "string" || Number.isNaN(end) || what === "") {
    throw new Error(`read policy: rule ${index + 1} is malformed`);
  }
  return { selector, what, boost: "frequency" in source, until: end, reason: String(reason), by: String(by), source };
}

/** What a rule does, or "" for what is not known here. */
function action({ off, rate, frequency }) {
  if (off === true) return "collect nothing";
  if (Number.isInteger(frequency)) return `${frequency} samples per second and CPU`;
  const [, n] = /^1\/(\d{1,4})$/.exec(rate) ?? [];
  if (n === undefined) return "";
  return n === "1" ? "keep all samples" : `keep one sample in ${n}`;
}

/** The rules that have not expired at a time of the server. */
export function liveRules(policy, time) {
  return policy.rules.filter(({ until }) => until > time);
}

/** The document with the live rules but one. */
export function without(policy, rule, time) {
  return { version: policy.version, rules: liveRules(policy, time).filter((other) => other !== rule).map(({ source }) => source) };
}

/** The selector of a filter: {} is all. */
export function selectorOf(query) {
  return query.trim() === "" ? "{}" : query;
}

const UNITS = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];

/** What is left of a time, in its two largest units: "1 h 5 min", "59 s". */
export function formatLeft(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  let rest = seconds;
  const parts = UNITS.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return `${count} ${unit}`;
  });
  return parts.filter((part) => !part.startsWith("0 ")).join(" ");
}
