// SPDX-License-Identifier: Apache-2.0

// The rows of the view of requests: what each handler costs, and how certain
// that is. With what belongs to no handler they add up to everything.

/** What the data is grouped by, outermost first. */
export const REQUEST_LABELS = Object.freeze([
  "process_executable_name",
  "service_name",
  "rpc_method",
  "http_request_method",
  "http_route",
  "url_template",
  "request_attribution",
]);

/** The label that tells whether samples say anything of requests. */
export const ATTRIBUTION = "request_attribution";

/** Values of request_attribution, in the order they are shown in. */
export const CERTAINTIES = Object.freeze(["exact", "inferred", "ambiguous", "unattributed", "runtime"]);

/** Stands for no value of request_attribution, and for one not known here. */
export const NONE = "none";

/**
 * @typedef {object} Row
 * @property {string} service the executable, "" if absent
 * @property {"rpc_method"|"http_route"|"url_template"|""} kind label that names
 *   the handler; "" for what belongs to none
 * @property {string} method of HTTP, "" if absent or another protocol
 * @property {string} name value of that label
 * @property {Set<string>} serviceNames values of service_name, "" if absent
 * @property {number} total
 * @property {Record<string, number>} parts of the total, by certainty
 */

/**
 * @typedef {object} Requests
 * @property {Row[]} handlers the largest first
 * @property {Record<string, number>} others by certainty, what belongs to no handler
 * @property {Record<string, number>} parts by certainty, all of it
 * @property {number} unsent value that the server did not send, for it is small
 * @property {number} total of all these
 */

/**
 * Sums up an answer that is grouped by REQUEST_LABELS.
 * @param {import("./profile.js").Profile} profile
 * @returns {Requests}
 */
export function sumRequests(profile) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  const sums = { handlers: [], others: {}, parts: {}, unsent: 0, total: profile.total };
  for (let i = 0; i < profile.size; i++) {
    sums.unsent += profile.unsent[i];
    if (profile.depth[i] !== REQUEST_LABELS.length) continue;
    const values = valuesOf(profile, i);
    const certainty = CERTAINTIES.includes(values[ATTRIBUTION]) ? values[ATTRIBUTION] : NONE;
    add(sums.parts, certainty, profile.totals[i]);
    const row = rowFor(values);
    if (row.kind === "") {
      add(sums.others, certainty, profile.totals[i]);
      continue;
    }
    const key = rowKey(row);
    if (!rows.has(key)) rows.set(key, row);
    const sum = rows.get(key);
    add(sum.parts, certainty, profile.totals[i]);
    sum.total += profile.totals[i];
    sum.serviceNames.add(values.service_name);
  }
  sums.handlers = [...rows.values()].sort((a, b) => b.total - a.total || (rowText(a) < rowText(b) ? -1 : 1));
  return sums;
}

const add = (sums, key, value) => (sums[key] = (sums[key] ?? 0) + value);

/** The labels of a node at the lowest level; "" for those that are absent. */
function valuesOf(profile, node) {
  const values = {};
  for (let i = node; profile.depth[i] > 0; i = profile.parent[i]) {
    const label = REQUEST_LABELS[profile.depth[i] - 1];
    const value = profile.names[profile.name[i]];
    values[label] = value === `(no ${label})` ? "" : value;
  }
  return values;
}

/** An empty row for the handler that labels name. */
function rowFor(values) {
  return { service: values.process_executable_name, ...handlerOf(values), serviceNames: new Set(), total: 0, parts: {} };
}

/**
 * The handler that labels name.
 * @param {Record<string, string>} values absent ones may be "" or missing
 * @returns {Pick<Row, "kind"|"method"|"name">}
 */
export function handlerOf(values) {
  const kind = ["rpc_method", "http_route", "url_template"].find((label) => (values[label] ?? "") !== "") ?? "";
  const method = kind === "rpc_method" ? "" : values.http_request_method ?? "";
  return { kind, method, name: values[kind] ?? "" };
}

/** Tells the handlers of all programs apart. */
export function handlerKey({ kind, method, name }) {
  return JSON.stringify([kind, method, name]);
}

/** Tells rows apart. */
export function rowKey(row) {
  return JSON.stringify([row.service, handlerKey(row)]);
}

/** What a search looks at, and what breaks ties. */
export function rowText({ service, method, name }) {
  return `${service} ${method} ${name}`;
}

/**
 * The labels that select a handler. Agents name it by one label only, so the
 * others need not be asked to be absent.
 * @param {Row} row
 * @returns {[string, string][]} name and value
 */
export function labelsOf({ service, kind, method, name }) {
  /** @type {[string, string][]} */
  const labels = [["process_executable_name", service]];
  if (kind !== "rpc_method") labels.push(["http_request_method", method]);
  return [...labels, [kind, name]];
}
