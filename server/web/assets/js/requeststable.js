// SPDX-License-Identifier: Apache-2.0

// The view of requests: a bar of how certain everything is, and a table of
// handlers whose last rows are what belongs to none.

import { button, clip, element } from "./dom.js";
import { CERTAINTIES, NONE, rowKey, rowText } from "./requests.js";
import { traceList } from "./tracelist.js";
import { tracesOfRows } from "./traces.js";
import { formatCount, formatShare, formatValue } from "./units.js";

/** Rows shown at once; the search narrows them down. */
const MOST_ROWS = 500;
const LONGEST_NAME = 300;

const COLUMNS = [
  ["service", "Program"],
  ["method", "Method"],
  ["name", "Handler"],
  ["trace", "Trace ids"],
  ["total", "CPU"],
  ["certainty", "Certainty"],
];

const KINDS = {
  rpc_method: ["RPC", "rpc_method"],
  http_route: ["route", "http_route: the framework's own route"],
  url_template: ["path", "url_template: the path of the request with what varies taken out"],
};

const MEANINGS = {
  exact: "published by the program, read from its memory, or its only request",
  inferred: "follows from who answered, or from who started the work",
  ambiguous: "one of several requests, or none: there is no pick",
  unattributed: "no request is known",
  runtime: "scheduler, garbage collector or compiler of a program",
  [NONE]: "lost samples, or an agent that does not look at requests",
};

const titleOf = (certainty) => (certainty === NONE ? "not looked at" : certainty);

export class RequestsTable {
  /**
   * @param {HTMLElement} overview
   * @param {HTMLTableElement} table
   * @param {HTMLElement} note
   * @param {{handler: (row: import("./requests.js").Row) => void, service: (name: string) => void,
   *   certainty: (value: string) => void, copy: (text: string) => void}} actions certainty gets "" for NONE
   */
  constructor(overview, table, note, actions) {
    Object.assign(this, { overview, table, note, actions });
    /** @type {Set<string>} keys of the rows whose trace ids are listed */
    this.open = new Set();
  }

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {string} unit
   * @param {((text: string) => boolean)|null} matches what the search lets through
   * @param {{traces: import("./traces.js").Trace[], more: boolean, ignored: string[], error: string}} answer
   *   of the server about trace ids
   */
  show(requests, unit, matches, answer) {
    const { handlers } = requests;
    this.whole = requests.total;
    this.unit = unit;
    this.answer = answer;
    this.traces = tracesOfRows(handlers, answer.traces);
    const columns = COLUMNS.filter(([key]) => key !== "trace" || this.traces.size > 0);
    const shown = (matches ? handlers.filter((row) => matches(rowText(row))) : handlers).slice(0, MOST_ROWS);
    this.#showOverview(requests);
    this.table.tHead.replaceChildren(element("tr", {}, ...columns.map(([key, title]) =>
      element("th", { scope: "col", className: key }, title))));
    this.table.tBodies[0].replaceChildren(...shown.flatMap((row) => this.#handler(row)));
    this.table.tFoot.replaceChildren(...this.#foot(requests, shown));
    this.note.textContent = noteFor(requests, shown.length) + (answer.error === "" ? "" : ` · no trace ids: ${answer.error}`);
  }

  #showOverview({ parts, unsent }) {
    const all = [...CERTAINTIES, NONE].filter((certainty) => certainty !== NONE || parts[NONE] > 0);
    const legend = all.map((certainty) => {
      const value = parts[certainty] ?? 0;
      const figures = element("small", {}, `${formatShare(value, this.whole)} · ${formatValue(value, this.unit)}`);
      const name = button(titleOf(certainty), () => this.#pick(certainty), { title: MEANINGS[certainty] });
      return element("li", {}, element("i", { className: `swatch ${certainty}`, "aria-hidden": "true" }), name, figures);
    });
    this.overview.replaceChildren(
      stack(parts, this.whole, unsent),
      element("ul", { className: "legend" }, ...legend),
    );
  }

  #pick(certainty) {
    this.actions.certainty(certainty === NONE ? "" : certainty);
  }

  /** The row of a handler, and the one with its trace ids if it is open. */
  #handler(row) {
    const [kind, meaning] = KINDS[row.kind];
    const full = clip(row.name, LONGEST_NAME);
    const service = row.service === ""
      ? "(none)"
      : button(clip(row.service, LONGEST_NAME), () => this.actions.service(row.service), { title: `Only ${clip(row.service, LONGEST_NAME)}`, dir: "auto" });
    const made = element("tr", {},
      element("td", { className: "service" }, service),
      element("td", { className: "method", title: clip(row.method, LONGEST_NAME) }, clip(row.method, LONGEST_NAME)),
      element("td", { className: "name" },
        button(full, () => this.actions.handler(row), { title: `${full}\nShow its flame graph`, dir: "auto" }),
        element("small", { title: meaning }, kind)),
      ...(this.traces.size > 0 ? [this.#traceCell(row)] : []),
      this.#value(row.total),
      element("td", { className: "certainty" }, stack(row.parts, row.total, 0), element("span", {}, describe(row.parts, row.total))),
    );
    const open = this.traces.has(row) && this.open.has(rowKey(row));
    return open ? [made, this.#traceRow(row)] : [made];
  }

  /** Offers the trace ids of a handler that has some. */
  #traceCell(row) {
    const its = this.traces.get(row);
    if (!its) return element("td", { className: "trace" });
    const toggle = button(formatCount(its.traces.length), () => {
      const open = !this.open.delete(rowKey(row));
      if (open) this.open.add(rowKey(row));
      toggle.setAttribute("aria-expanded", String(open));
      if (open) toggle.closest("tr").after(this.#traceRow(row));
      else toggle.closest("tr").nextElementSibling.remove();
    }, { "aria-expanded": this.open.has(rowKey(row)), "aria-label": `Trace ids of ${clip(rowText(row), LONGEST_NAME)}: ${formatCount(its.traces.length)}` });
    return element("td", { className: "trace" }, toggle);
  }

  #traceRow(row) {
    const list = traceList(this.traces.get(row), this.answer, this.actions.copy);
    return element("tr", { className: "of-traces" }, element("td", { colSpan: COLUMNS.length }, list));
  }

  /** What is not in the rows above, and the whole. */
  #foot({ handlers, others, unsent }, shown) {
    const sum = (rows) => rows.reduce((all, row) => all + row.total, 0);
    const rows = [];
    const more = handlers.length - shown.length;
    if (more > 0) rows.push(this.#other(`${formatCount(more)} more ${more === 1 ? "handler" : "handlers"}`, "", sum(handlers) - sum(shown)));
    if (unsent > 0) rows.push(this.#other("too small to send", "a filter or a shorter range brings them back", unsent));
    for (const certainty of [...CERTAINTIES, NONE]) {
      const always = !["exact", "inferred", NONE].includes(certainty);
      const value = others[certainty] ?? 0;
      if (!always && value === 0) continue;
      const name = titleOf(certainty);
      const title = always || certainty === NONE ? name : `${name}, no handler named`;
      const text = button(title, () => this.#pick(certainty), { title: `Show the flame graph of what is ${name}` });
      rows.push(this.#other(text, MEANINGS[certainty], value, certainty));
    }
    const all = this.#other("total", "", this.whole);
    all.className = "whole";
    return [...rows, all];
  }

  #other(name, meaning, value, certainty) {
    const swatch = element("i", { className: `swatch ${certainty ?? "no-swatch"}`, "aria-hidden": "true" });
    return element("tr", {},
      element("td", { className: "other", colSpan: this.traces.size > 0 ? 4 : 3 }, swatch, name, element("small", {}, meaning)),
      this.#value(value),
      element("td", { className: "certainty" }),
    );
  }

  #value(value) {
    const bar = element("i", { className: "bar", "aria-hidden": "true" });
    bar.style.width = `${percent(value, this.whole)}%`;
    return element("td", { className: "total" }, bar,
      element("span", {}, value === 0 ? "–" : formatValue(value, this.unit)),
      element("span", { className: "share" }, value === 0 ? "" : formatShare(value, this.whole)));
  }
}

const percent = (part, whole) => (whole > 0 ? (100 * part) / whole : 0);

/** A bar of the certainties of whole; what is left of it stays empty. */
function stack(parts, whole, unsent) {
  const text = describe(parts, whole) + (unsent > 0 ? `, too small to send ${formatShare(unsent, whole)}` : "");
  const bar = element("div", { className: "stack", role: "img", "aria-label": text, title: text });
  for (const certainty of [...CERTAINTIES, NONE]) {
    if (!(parts[certainty] > 0)) continue;
    const part = element("i", { className: certainty });
    part.style.width = `${percent(parts[certainty], whole)}%`;
    bar.append(part);
  }
  return bar;
}

/** The certainties as words: "exact", or "exact 86.0%, inferred 14.0%". */
function describe(parts, whole) {
  const present = [...CERTAINTIES, NONE].filter((certainty) => parts[certainty] > 0);
  if (present.length === 1 && parts[present[0]] === whole) return titleOf(present[0]);
  return present.map((certainty) => `${titleOf(certainty)} ${formatShare(parts[certainty], whole)}`).join(", ");
}

function noteFor({ handlers, parts, total }, shown) {
  if (parts[NONE] === total) return "No sample says which request it served: the agent is older, or runs with --no-requests.";
  if (shown < handlers.length) return `${formatCount(shown)} of ${formatCount(handlers.length)} handlers`;
  return `${formatCount(shown)} ${shown === 1 ? "handler" : "handlers"}`;
}
