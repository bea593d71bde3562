// SPDX-License-Identifier: Apache-2.0

// The search field, and how much it matches. One search serves both the graph
// and the table; a function picked in the table takes its place in the graph.

import { clip } from "./dom.js";
import { rowText } from "./requests.js";
import { compileSearch, matchFunction, matchNames, matchedValue } from "./search.js";
import { formatShare } from "./units.js";

const LONGEST_PICK = 60;

export class SearchBox {
  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} matched shows the matched share
   * @param {HTMLButtonElement} unpick
   * @param {{search: (text: string) => void, unpick: () => void}} actions
   */
  constructor(input, matched, unpick, actions) {
    Object.assign(this, { input, matched, unpick });
    input.addEventListener("input", () => actions.search(input.value));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || input.value === "") return;
      actions.search("");
      event.preventDefault();
      event.stopPropagation();
    });
    unpick.addEventListener("click", () => actions.unpick());
  }

  /** @param {import("./state.js").State} state */
  show({ search, pick }) {
    if (this.input.value !== search) this.input.value = search;
    this.unpick.hidden = pick === "";
    this.unpick.textContent = `${clip(pick, LONGEST_PICK)} ×`;
    this.unpick.setAttribute("aria-label", `Stop showing ${clip(pick, LONGEST_PICK)}`);
  }

  /**
   * Matches a profile and shows the share.
   * @param {import("./profile.js").Profile} profile
   * @param {import("./state.js").State} state
   * @returns {{marked: Uint8Array|null, matches: ((name: string) => boolean)|null}}
   *   what the graph marks and what the table lets through
   */
  match(profile, zoom, { search, pick, object }) {
    const { matches, wrong } = this.#compile(search);
    if (wrong) return { marked: null, matches };
    const marked = pick !== "" ? matchFunction(profile, pick, object) : matches && matchNames(profile, matches);
    this.matched.textContent = marked ? share(profile, marked, zoom) : "";
    return { marked, matches };
  }

  /**
   * Matches the handlers and shows the share.
   * @param {import("./requests.js").Requests} requests
   * @returns {((text: string) => boolean)|null} what the table lets through
   */
  matchRequests({ handlers, total }, { search }) {
    const { matches, wrong } = this.#compile(search);
    if (wrong) return null;
    const found = handlers.filter((row) => matches?.(rowText(row)));
    this.matched.textContent = matches ? `${formatShare(found.reduce((sum, row) => sum + row.total, 0), total)} of all` : "";
    return matches;
  }

  /** Compiles the search, or shows what is wrong with it. */
  #compile(search) {
    try {
      const matches = compileSearch(search);
      this.input.setAttribute("aria-invalid", "false");
      return { matches, wrong: false };
    } catch (error) {
      this.input.setAttribute("aria-invalid", "true");
      this.matched.textContent = error.message;
      return { matches: null, wrong: true };
    }
  }
}

function share(profile, marked, zoom) {
  const all = `${formatShare(matchedValue(profile, marked, 0), profile.total)} of all`;
  if (zoom === 0) return all;
  return `${all} · ${formatShare(matchedValue(profile, marked, zoom), profile.totals[zoom])} of zoom`;
}
