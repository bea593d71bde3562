// SPDX-License-Identifier: Apache-2.0

// What the graph adds up to, what it leaves out, and what its colours mean.

import { hueOf } from "./color.js";
import { button, clip, element } from "./dom.js";
import { isMarker } from "./profile.js";
import { matchNames, matchedValue } from "./search.js";
import { formatCores, formatCount, formatInstant, formatRange, formatShare, formatSpan, formatValue } from "./units.js";

const MOST_OBJECTS = 6;
const LONGEST_OBJECT = 40;
/** Finds what isMarker says, as a search that people can read and edit. */
const MARKER_SEARCH = "/^\\[(truncated|lost)/";

const plural = (count, noun) => `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;

/**
 * One line of facts about all that was selected.
 * @param {HTMLElement} root
 * @param {import("./profile.js").Profile} profile
 */
export function showSummary(root, profile) {
  const fact = (text, className = "") => element("span", { className }, text);
  const what = profile.unit === "nanoseconds" ? " CPU" : "";
  root.replaceChildren(fact(formatValue(profile.total, profile.unit) + what, "total"));
  const cores = formatCores(profile);
  if (cores !== "") root.append(fact(cores, "cores"));
  root.append(
    fact(plural(profile.samples, "sample")),
    fact(plural(profile.hosts, "host")),
    fact(formatRange(profile.from, profile.to), "range"),
  );
  if (profile.hidden > 0) {
    const title = "Frames too small to send; hatched in the graph. A filter or a shorter range brings them back.";
    root.append(element("span", { className: "hidden-share", title }, `${formatShare(profile.hidden, profile.total)} hidden`));
  }
  if (profile.skipped > 0) root.append(fact(`${plural(profile.skipped, "unreadable profile")} left out`, "hidden-share"));
}

/**
 * What the colours of the zoomed part mean: its largest objects, and whatever
 * is not a frame of a program.
 * @param {HTMLElement} root
 * @param {import("./profile.js").Profile} profile
 * @param {(text: string) => void} search
 */
export function showLegend(root, profile, zoom, search) {
  const selfs = new Map();
  for (let i = zoom; i < profile.end[zoom]; i++) {
    const object = profile.objects[profile.object[i]];
    if (object !== "") selfs.set(object, (selfs.get(object) ?? 0) + profile.selfs[i]);
  }
  const largest = [...selfs].sort((a, b) => b[1] - a[1]).slice(0, MOST_OBJECTS);
  root.replaceChildren(...largest.map(([object, self]) => {
    const swatch = element("i", { className: "swatch" });
    swatch.style.setProperty("--hue", String(hueOf(object)));
    const share = element("small", {}, formatShare(self, profile.totals[zoom]));
    return element("li", { title: clip(object, 300) }, swatch, element("bdi", {}, clip(object, LONGEST_OBJECT)), share);
  }));
  const marked = matchedValue(profile, matchNames(profile, isMarker), zoom);
  if (marked > 0) {
    const swatch = element("i", { className: "swatch marker" });
    const text = `incomplete or lost ${formatShare(marked, profile.totals[zoom])}`;
    root.append(element("li", {}, swatch, button(text, () => search(MARKER_SEARCH), { id: "find-markers" })));
  }
  if (profile.unsent.some((value) => value > 0)) {
    root.append(element("li", {}, element("i", { className: "swatch rest" }), "too small to send"));
  }
  root.append(element("li", {}, element("i", { className: "swatch sliver" }), "too narrow to draw"));
}

/**
 * Says why there is no graph, and offers what may help.
 * @param {HTMLElement} root
 * @param {import("./profile.js").Profile} profile
 * @param {string} query
 * @param {{range: (from: number, to: number) => void, filter: (query: string) => void}} actions
 */
export function showEmpty(root, profile, query, actions) {
  const { from, to, oldest, newest } = profile;
  root.replaceChildren(element("p", {}, `No samples between ${formatRange(from, to).replace(" – ", " and ")}.`));
  if (!(newest > 0)) {
    root.append(element("p", {}, "Nothing is stored yet. The first data arrives about 10 seconds after an agent starts; this page shows it by itself."));
    return;
  }
  const overlaps = newest >= from && oldest <= to;
  if (overlaps && query !== "") {
    root.append(element("p", {}, "There is data in this range, but none that the filter lets through."));
  } else {
    const age = Date.now() - newest;
    const ago = age > 0 ? ` (${formatSpan(age)} ago)` : "";
    root.append(element("p", {}, `The newest data is from ${formatInstant(newest)}${ago}, the oldest from ${formatInstant(oldest)}.`));
    // The end of a range is not part of it, so go one second past the newest.
    const end = newest + 1000;
    root.append(button("Show the newest data", () => actions.range(end - (to - from), end), { id: "show-newest" }));
  }
  if (query !== "") root.append(button("Remove the filter", () => actions.filter(""), { id: "remove-filter" }));
}
