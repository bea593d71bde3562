// SPDX-License-Identifier: Apache-2.0

// The table of functions.

import { hueOf } from "./color.js";
import { button, clip, element } from "./dom.js";
import { sortRows } from "./functions.js";
import { isMarker } from "./profile.js";
import { formatCount, formatShare, formatValue } from "./units.js";

/** Rows shown at once; the search narrows them down. */
const MOST_ROWS = 500;
const LONGEST_NAME = 300;

const COLUMNS = [
  ["name", "Function"],
  ["object", "Object"],
  ["self", "Self"],
  ["total", "Total"],
];

/**
 * @typedef {object} TableView
 * @property {import("./functions.js").Row[]} rows all of them; sorted in place
 * @property {number} whole value that percentages are of
 * @property {string} unit
 * @property {((name: string) => boolean)|null} matches what the search lets through
 * @property {string} sort as in state.js
 * @property {string} pick name of the picked function
 * @property {string} object of the picked function
 */

export class Table {
  /**
   * @param {HTMLTableElement} table
   * @param {HTMLElement} note says how much of the table is shown
   * @param {{sort: (sort: string) => void, pick: (name: string, object: string) => void}} actions
   */
  constructor(table, note, actions) {
    Object.assign(this, { table, note, actions });
  }

  /** @param {TableView} view */
  show(view) {
    const descending = view.sort.startsWith("-");
    const wanted = view.sort.replace(/^-/, "");
    const column = COLUMNS.some(([key]) => key === wanted) ? wanted : "self";
    const rows = view.matches ? view.rows.filter((row) => view.matches(row.name)) : view.rows;
    const shown = sortRows(rows, column, descending).slice(0, MOST_ROWS);
    this.table.tHead.replaceChildren(this.#head(column, descending));
    this.table.tBodies[0].replaceChildren(...shown.map((row) => this.#row(view, row)));
    this.note.textContent = shown.length < rows.length
      ? `${formatCount(shown.length)} of ${formatCount(rows.length)} functions: search to see others`
      : `${formatCount(rows.length)} ${rows.length === 1 ? "function" : "functions"}`;
  }

  #head(sorted, descending) {
    const order = descending ? "descending" : "ascending";
    return element("tr", {}, ...COLUMNS.map(([key, title]) => {
      const numeric = key === "self" || key === "total";
      // A first click shows the largest numbers, or the alphabet's beginning.
      const next = key === sorted ? (descending ? key : `-${key}`) : numeric ? `-${key}` : key;
      return element(
        "th",
        { scope: "col", className: key, "aria-sort": key === sorted ? order : "none" },
        button(title, () => this.actions.sort(next)),
      );
    }));
  }

  #row(view, row) {
    const picked = row.name === view.pick && row.object === view.object;
    const swatch = element("i", { className: "swatch", "aria-hidden": "true" });
    if (isMarker(row.name)) swatch.classList.add("marker");
    else if (row.object !== "") swatch.style.setProperty("--hue", String(hueOf(row.object)));
    const name = button(clip(row.name, LONGEST_NAME), () => {
      if (picked) this.actions.pick("", "");
      else this.actions.pick(row.name, row.object);
    }, { title: `${clip(row.name, LONGEST_NAME)}\n${clip(row.object, LONGEST_NAME)}`, dir: "auto", "aria-pressed": picked });
    return element(
      "tr",
      { className: picked ? "picked" : "" },
      element("td", { className: "name" }, swatch, name),
      element("td", { className: "object", title: clip(row.object, LONGEST_NAME), dir: "auto" }, clip(row.object, LONGEST_NAME)),
      cell(view, row.self, "self"),
      cell(view, row.total, "total"),
    );
  }
}

/** A value with its share, and a bar as long as the share. */
function cell({ unit, whole }, value, column) {
  const bar = element("i", { className: "bar", "aria-hidden": "true" });
  bar.style.width = `${whole > 0 ? (100 * value) / whole : 0}%`;
  return element(
    "td",
    { className: column },
    bar,
    element("span", {}, value === 0 ? "–" : formatValue(value, unit)),
    element("span", { className: "share" }, value === 0 ? "" : formatShare(value, whole)),
  );
}
