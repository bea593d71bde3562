// SPDX-License-Identifier: Apache-2.0

// What the page shows, as a URL: whoever opens the URL sees the same view.

/**
 * @typedef {object} State
 * @property {string} query label selector, "" for everything
 * @property {string} last range that ends now, such as "15m"; "" if absolute
 * @property {string} from start of an absolute range, RFC 3339
 * @property {string} to end of it
 * @property {string} by label whose values are the first level, "" for none
 * @property {string} zoom address of the zoomed frame (zoompath.js)
 * @property {string} search
 * @property {string} pick name of the function picked in the table
 * @property {string} object of the picked function
 * @property {"graph"|"both"|"table"|"requests"} view
 * @property {string} sort column of the table, with "-" in front: descending
 * @property {string} policy "1" while the policy is shown
 * @property {string} auto "1" while the page refreshes by itself
 */

/** @type {Readonly<State>} */
export const DEFAULTS = Object.freeze({
  query: "",
  last: "15m",
  from: "",
  to: "",
  by: "process_executable_name",
  zoom: "",
  search: "",
  pick: "",
  object: "",
  view: "graph",
  sort: "-self",
  policy: "",
  auto: "",
});

/**
 * Reads the query part of a URL.
 * @param {string} text
 * @returns {State}
 */
export function readState(text) {
  const parameters = new URLSearchParams(text);
  const state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) state[key] = parameters.get(key) ?? state[key];
  if (state.from !== "" || state.to !== "") state.last = "";
  return state;
}

/**
 * Writes the query part of a URL, without what is as by default.
 * @param {State} state
 * @returns {string} "" or text that begins with "?"
 */
export function writeState(state) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== DEFAULTS[key] && !(key === "last" && value === "")) parameters.set(key, value);
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

/**
 * The parameters that say which data is meant, as the API wants them.
 * @param {State} state
 */
export function dataParameters({ query, last, from, to }) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries({ query, last, from, to })) {
    if (value !== "") parameters.set(key, value);
  }
  return parameters;
}
