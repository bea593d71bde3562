// SPDX-License-Identifier: Apache-2.0

// The list of trace ids below the row of a handler.

import { button, clip, element } from "./dom.js";
import { formatCount, formatInstant, formatValue } from "./units.js";

/** Trace ids shown of a handler. */
const MOST_TRACES = 20;
const LONGEST_NAME = 100;

const COLUMNS = [
  ["id", "Trace id"],
  ["time", "Time"],
  ["duration", "Duration"],
  ["cpu", "CPU"],
  ["status", "Status"],
  ["place", "Service"],
  ["place", "Host"],
];

/**
 * @param {import("./traces.js").RowTraces} its
 * @param {{more: boolean, ignored: string[]}} answer more if not all were sent;
 *   labels of the filter that were ignored
 * @param {(id: string) => void} copy
 */
export function traceList(its, answer, copy) {
  const shown = its.traces.slice(0, MOST_TRACES);
  return element("div", { className: "traces" },
    ...notes(its, answer, shown.length).map((text) => element("p", {}, text)),
    element("table", {},
      element("thead", {}, element("tr", {}, ...COLUMNS.map(([key, title]) => element("th", { scope: "col", className: key }, title)))),
      element("tbody", {}, ...shown.map((trace) => traceRow(trace, copy)))),
  );
}

function traceRow({ id, sampled, start, duration, cpu, status, labels }, copy) {
  const cells = [
    [element("code", {}, id), button("Copy", () => copy(id), { "aria-label": `Copy the trace id ${id}` }),
      element("small", { title: "The caller says that it does not record the trace." }, sampled ? "" : "not sampled")],
    [formatInstant(start)],
    [formatValue(duration, "nanoseconds")],
    [cpu === null ? "not known" : cpu === 0 ? "–" : `≥ ${formatValue(cpu, "nanoseconds")}`],
    [status === "" ? "not known" : status],
    [clip(labels.service_name ?? "", LONGEST_NAME)],
    [clip(labels.host_name ?? "", LONGEST_NAME)],
  ];
  return element("tr", {}, ...cells.map((content, i) => {
    const cell = element("td", { className: COLUMNS[i][0], dir: "auto" }, ...content);
    if (cell.className === "place") cell.title = cell.textContent;
    return cell;
  }));
}

/** What there is, and what it cannot tell. */
function notes({ traces, shared }, { more, ignored }, shown) {
  const all = `${formatCount(traces.length)} trace ${traces.length === 1 ? "id" : "ids"}`;
  const list = (names) => names.slice(0, 5).map((name) => (name === "" ? "(none)" : clip(name, LONGEST_NAME))).join(", ");
  const texts = [shown < traces.length ? `${formatCount(shown)} of ${all}, those with the most CPU time.` : `${all}, those with the most CPU time first.`];
  if (more) texts[0] += " Older ones were not asked for: choose a shorter range or a filter to see them.";
  if (shared.length > 0) texts.push(`The same service has this handler in other programs: ${list(shared)}. A trace id may be of any of them.`);
  if (ignored.length > 0) texts.push(`Trace ids know host, service and handler only, so the filter does not narrow them by ${list(ignored)}.`);
  return texts;
}
