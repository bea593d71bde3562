// SPDX-License-Identifier: Apache-2.0

// What a box of the graph is, in full, beside the pointer.

import { clip, element } from "./dom.js";
import { nameOf, objectOf } from "./profile.js";
import { formatCount, formatShare, formatValue } from "./units.js";

/** Longest name shown, in UTF-16 units; the style sheet cuts by lines too. */
const LONGEST_NAME = 1200;
/** Distance from the pointer and from the window's edge in CSS pixels. */
const DISTANCE = 14;

/** "1.20 s (3.4% of all, 12.1% of zoom)" */
function amount(profile, zoom, value) {
  const text = `${formatValue(value, profile.unit)} · ${formatShare(value, profile.total)} of all`;
  return zoom === 0 ? text : `${text} · ${formatShare(value, profile.totals[zoom])} of zoom`;
}

/**
 * Says what a box is: a title and pairs of term and text.
 * @param {import("./layout.js").Box} box
 * @returns {{title: string, facts: [string, string][]}}
 */
export function describe(profile, zoom, box) {
  const name = clip(nameOf(profile, box.node), LONGEST_NAME);
  const value = amount(profile, zoom, box.value);
  if (box.kind === "unsent" || box.count === 0) {
    return { title: "[hidden]", facts: [["Value", value], ["What", "callees too small to be sent"], ["Of", name]] };
  }
  if (box.kind === "narrow") {
    const title = box.count === 1 ? "1 narrow frame" : `${formatCount(box.count)} narrow frames`;
    return { title, facts: [["Total", value], ["Largest", name], ["Click", "zooms to the largest"]] };
  }
  const facts = [["Total", value], ["Self", amount(profile, zoom, profile.selfs[box.node])]];
  const object = objectOf(profile, box.node);
  if (object !== "") facts.unshift(["Object", clip(object, LONGEST_NAME)]);
  return { title: name, facts };
}

export class Tooltip {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
  }

  show({ title, facts }) {
    this.root.replaceChildren(
      element("p", { className: "tooltip-title" }, title),
      element("dl", {}, ...facts.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)])),
    );
    this.root.hidden = false;
  }

  /** Moves the tooltip beside a point of the window, inside the window. */
  moveTo(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.root;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = Math.max(DISTANCE / 2, Math.min(x + DISTANCE, clientWidth - width - DISTANCE / 2));
    const below = y + DISTANCE + 6;
    const top = below + height < clientHeight ? below : Math.max(DISTANCE / 2, y - height - DISTANCE);
    this.root.style.left = `${left}px`;
    this.root.style.top = `${top}px`;
  }

  hide() {
    this.root.hidden = true;
  }
}
