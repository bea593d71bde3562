// SPDX-License-Identifier: Apache-2.0

// Asking the server.

/** Longest text of an error that is shown, in UTF-16 units. */
const LONGEST_ERROR = 1000;
/** Nodes of an answer with sums; thousands of handlers have fewer. */
const MOST_SUMS = 65_536;
/** Requests with trace ids that are asked for, some 400 bytes each. */
const MOST_EXEMPLARS = 5_000;
/** A query may take the server 30 s; longer means that nobody answers. */
const TIMEOUT_MS = 45_000;

/**
 * Asks, and gives an answer that is no error, with its body.
 * @param {string} address path and query
 * @param {RequestInit} init signal ends the request; the promise then rejects
 *   with an AbortError
 * @returns {Promise<{body: unknown, headers: Headers}>}
 * @throws {Error} with one sentence for people, the server's own if it gave one
 */
async function ask(address, init) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const response = await fetch(address, { ...init, signal: init.signal ? AbortSignal.any([init.signal, limit]) : limit });
    if (!response.ok) throw new Error(await sentence(response));
    return { body: await response.json(), headers: response.headers };
  } catch (error) {
    if (limit.aborted) throw new Error(`The server did not answer within ${TIMEOUT_MS / 1000} s.`, { cause: error });
    if (error instanceof TypeError) throw new Error("The server cannot be reached.", { cause: error });
    if (error instanceof SyntaxError) throw new Error(`The answer of ${address.split("?")[0]} is not JSON.`, { cause: error });
    throw error;
  }
}

/**
 * @param {string} path
 * @param {URLSearchParams} parameters
 * @param {AbortSignal} signal
 */
async function get(path, parameters, signal) {
  return (await ask(`${path}?${parameters}`, { signal })).body;
}

/** The sentence in an answer that reports an error. */
async function sentence(response) {
  const text = await response.text();
  try {
    const { error, faults } = JSON.parse(text);
    if (Array.isArray(faults) && faults.length > 0) return faults.map(faultText).join("\n").slice(0, LONGEST_ERROR);
    if (typeof error === "string" && error !== "") return error.slice(0, LONGEST_ERROR);
  } catch {
    // Not from our server but from a proxy before it: the status must do.
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

/** A fault without its line and column, which are those of a text nobody has seen. */
function faultText({ rule, reason }) {
  return rule > 0 ? `rule ${rule}: ${reason}` : String(reason);
}

/** The flame graph, as parseProfile reads it. */
export function getFlameGraph(parameters, by, signal) {
  const all = new URLSearchParams(parameters);
  if (by !== "") all.set("by", by);
  return get("/api/v1/flamegraph", all, signal);
}

/** Sums by labels, as a flame graph whose levels are the values of each. */
export function getSums(parameters, labels, signal) {
  const all = new URLSearchParams(parameters);
  all.set("by", labels.join());
  all.set("max_depth", String(labels.length));
  all.set("max_nodes", String(MOST_SUMS));
  return get("/api/v1/flamegraph", all, signal);
}

/** Requests that carried trace ids, as parseTraces reads them; the newest first. */
export function getExemplars(parameters, signal) {
  const all = new URLSearchParams(parameters);
  all.set("limit", String(MOST_EXEMPLARS));
  return get("/api/v1/exemplars", all, signal);
}

/** The policy, as parsePolicy reads it. */
export function getPolicy(signal) {
  return ask("/api/v1/policy", { signal });
}

/** Replaces the policy with the tag; gives it as accepted. */
export function putPolicy(document, tag) {
  return ask("/api/v1/policy?by=page", { method: "PUT", headers: { "If-Match": tag }, body: JSON.stringify(document) });
}

/** Adds a boost; gives the policy with it. */
export function postBoost(boost) {
  return ask("/api/v1/policy/boost", { method: "POST", body: JSON.stringify(boost) });
}

/** The names of all labels of the selected data. */
export async function getLabels(parameters, signal) {
  return strings(await get("/api/v1/labels", parameters, signal));
}

/** The values of one label in the selected data. */
export async function getLabelValues(name, parameters, signal) {
  return strings(await get(`/api/v1/labels/${encodeURIComponent(name)}/values`, parameters, signal));
}

function strings({ data }) {
  if (!Array.isArray(data)) throw new Error("The server answered without a list.");
  return data.map(String);
}

/** Address of the selected data as pprof, for `go tool pprof` too. */
export function pprofURL(parameters) {
  return new URL(`/api/v1/pprof?${parameters}`, location.href).href;
}
