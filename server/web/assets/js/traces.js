// SPDX-License-Identifier: Apache-2.0

// Trace ids of requests, and which rows of the view of requests they belong to.
// They know their host, service and handler, and no program.

import { handlerKey, handlerOf } from "./requests.js";
import { formatSelector, parseSelector } from "./selector.js";

/** Labels that trace ids have, so that a selector may ask for them. */
const LABELS = ["host_name", "service_name", "http_request_method", "http_route", "url_template", "rpc_method"];

/**
 * @typedef {object} Trace one request that carried a trace id
 * @property {string} id 32 hexadecimal digits
 * @property {boolean} sampled whether its caller may have recorded the trace
 * @property {number} start in milliseconds since 1970
 * @property {number} duration in nanoseconds
 * @property {number|null} cpu in nanoseconds; null where it cannot be known
 * @property {string} status such as "2xx", "" if unknown
 * @property {Record<string, string>} labels
 */

/**
 * Reads the answer of /api/v1/exemplars.
 * @returns {{traces: Trace[], more: boolean}} more if there are older ones
 * @throws {Error} if it is malformed
 */
export function parseTraces({ data, more }) {
  if (!Array.isArray(data)) throw new Error("read trace ids: there is no list");
  return { traces: data.map(parseTrace), more: more === true };
}

function parseTrace(one, index) {
  const time = (value) => Number.isFinite(value) && value >= 0;
  const { trace_id: id, duration_ns: duration, cpu_ns: cpu = null, status_class: status, labels } = Object(one);
  const start = Date.parse(one?.start);
  if (!/^[0-9a-f]{32}$/.test(id) || !time(start) || !time(duration) || (cpu !== null && !time(cpu))) {
    throw new Error(`read trace ids: number ${index + 1} is malformed`);
  }
  const texts = Object.entries(Object(labels)).map(([name, value]) => [name, String(value)]);
  return {
    id, start, duration, cpu,
    sampled: one.sampled === true,
    status: /^[1-5]xx$/.test(status) ? status : "",
    labels: Object.fromEntries(texts),
  };
}

/**
 * The part of a selector that trace ids can be asked with.
 * @returns {{query: string, ignored: string[]}} ignored labels cannot be asked for
 */
export function traceQuery(selector) {
  const matchers = parseSelector(selector);
  if (matchers === null) return { query: "", ignored: [selector] };
  const known = ({ name }) => LABELS.includes(name);
  // The program is not ignored: its rows say of which services it is.
  const others = matchers.filter((m) => !known(m) && m.name !== "process_executable_name");
  return { query: formatSelector(matchers.filter(known)), ignored: [...new Set(others.map(({ name }) => name))] };
}

/**
 * @typedef {object} RowTraces
 * @property {Trace[]} traces those with the most CPU time first, then the longest
 * @property {string[]} shared other programs of the same services with the same
 *   handler: a trace may as well be theirs
 */

/**
 * Finds the traces of each row.
 * @param {import("./requests.js").Row[]} rows
 * @param {Trace[]} traces
 * @returns {Map<import("./requests.js").Row, RowTraces>} without rows that have none
 */
export function tracesOfRows(rows, traces) {
  const ofHandler = Map.groupBy(traces, ({ labels }) => handlerKey(handlerOf(labels)));
  const alike = Map.groupBy(rows, handlerKey);
  const found = new Map();
  for (const row of rows) {
    const its = (ofHandler.get(handlerKey(row)) ?? []).filter(({ labels }) => row.serviceNames.has(labels.service_name ?? ""));
    if (its.length === 0) continue;
    const names = new Set(its.map(({ labels }) => labels.service_name ?? ""));
    const others = alike.get(handlerKey(row)).filter((other) => other !== row && !names.isDisjointFrom(other.serviceNames));
    its.sort((a, b) => (b.cpu ?? 0) - (a.cpu ?? 0) || b.duration - a.duration);
    found.set(row, { traces: its, shared: others.map(({ service }) => service) });
  }
  return found;
}
