// SPDX-License-Identifier: Apache-2.0

// Choosing the range of time: one that ends now, or one with two dates.

import { element } from "./dom.js";
import { localISO } from "./units.js";

const ABSOLUTE = "absolute";

/** What the server calls a range, and its length in milliseconds. */
const RANGES = new Map([
  ["5m", ["Last 5 minutes", 3e5]],
  ["15m", ["Last 15 minutes", 9e5]],
  ["1h", ["Last hour", 36e5]],
  ["6h", ["Last 6 hours", 216e5]],
  ["24h", ["Last 24 hours", 864e5]],
  ["7d", ["Last 7 days", 6048e5]],
]);

/** A page that refreshes by itself does so this often: every 10 s at first. */
export function refreshInterval(last) {
  const [, length] = RANGES.get(last) ?? ["", 9e5];
  return Math.min(Math.max(length / 60, 1e4), 3e5);
}

export class TimeRange {
  /**
   * @param {HTMLSelectElement} select
   * @param {HTMLFormElement} form with inputs named from and to
   * @param {(range: {last: string, from: string, to: string}) => void} change
   */
  constructor(select, form, change) {
    Object.assign(this, { select, form, change });
    select.addEventListener("change", () => this.#select());
    form.addEventListener("input", () => form.elements.to.setCustomValidity(""));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#apply();
    });
  }

  /**
   * @param {{last: string, from: string, to: string}} state
   * @param {{from: number, to: number}|null} shown the range of the data shown,
   *   which the two dates start from
   */
  show(state, shown) {
    // A refresh must not take away the dates that somebody is choosing.
    const key = [state.last, state.from, state.to].join();
    if (key === this.key && !this.form.hidden) return;
    this.key = key;
    const known = [...RANGES].map(([value, [text]]) => element("option", { value }, text));
    // A URL may ask for any length; it then is an option of its own.
    if (state.last !== "" && !RANGES.has(state.last)) known.push(element("option", { value: state.last }, `Last ${state.last}`));
    this.select.replaceChildren(...known, element("option", { value: ABSOLUTE }, "From … to …"));
    this.select.value = state.last === "" ? ABSOLUTE : state.last;
    this.form.hidden = state.last !== "";
    const { from, to } = this.form.elements;
    from.value = dateInput(state.from, shown?.from);
    to.value = dateInput(state.to, shown?.to);
  }

  #select() {
    if (this.select.value !== ABSOLUTE) {
      this.form.hidden = true;
      this.change({ last: this.select.value, from: "", to: "" });
      return;
    }
    this.form.hidden = false;
    this.form.elements.from.focus();
  }

  #apply() {
    const { from, to } = this.form.elements;
    to.setCustomValidity(from.value < to.value ? "" : "The end must be after the start.");
    if (!this.form.reportValidity()) return;
    this.change({ last: "", from: new Date(from.value).toISOString(), to: new Date(to.value).toISOString() });
  }
}

/** The value of a date input for RFC 3339 text, or for a fallback. */
function dateInput(text, fallback) {
  const time = text === "" ? fallback : Date.parse(text);
  return Number.isFinite(time) ? localISO(time) : "";
}
