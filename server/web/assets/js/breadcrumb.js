// SPDX-License-Identifier: Apache-2.0

// The way back: the ancestors of the zoomed frame, and what can be done with it.

import { button, clip, element } from "./dom.js";
import { nameOf, pathTo } from "./profile.js";
import { formatShare, formatValue } from "./units.js";

const LONGEST_CRUMB = 120;

/**
 * @typedef {object} CrumbView
 * @property {import("./profile.js").Profile} profile
 * @property {number} zoom
 * @property {boolean} found whether zoom is the frame asked for
 * @property {string} by label that groups, or ""
 */

export class Breadcrumb {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} tools where the buttons for the zoomed frame go
   * @param {{zoom: (node: number) => void, copy: (text: string) => void,
   *   filter: (value: string) => void, pick: (node: number) => void}} actions
   */
  constructor(root, tools, actions) {
    Object.assign(this, { root, tools, actions });
  }

  /** @param {CrumbView} view */
  show(view) {
    const { profile, zoom } = view;
    const path = pathTo(profile, zoom);
    this.root.replaceChildren(...path.map((node) => {
      const name = clip(nameOf(profile, node), LONGEST_CRUMB);
      const crumb = node === zoom
        ? element("span", { "aria-current": "true", title: name }, name)
        : button(name, () => this.actions.zoom(node), { title: name });
      crumb.dir = "auto";
      return element("li", {}, crumb);
    }));
    this.root.scrollLeft = this.root.scrollWidth;
    this.tools.replaceChildren(...this.#tools(view));
  }

  #tools({ profile, zoom, found, by }) {
    const tools = [];
    if (!found) {
      tools.push(element("span", { className: "warn", role: "status" }, "The zoomed frame is not in this data; this is its nearest caller."));
    }
    if (zoom === 0) {
      if (found) tools.push(element("span", { className: "hint" }, "Click a frame to zoom in"));
      return tools;
    }
    const name = nameOf(profile, zoom);
    const value = profile.totals[zoom];
    tools.push(element("span", { className: "zoomed" }, `${formatValue(value, profile.unit)} · ${formatShare(value, profile.total)} of all`));
    if (by !== "" && profile.depth[zoom] === 1) {
      tools.push(button(`Filter to ${clip(name, 40)}`, () => this.actions.filter(name), { id: "filter-to" }));
    } else {
      tools.push(button("Find everywhere", () => this.actions.pick(zoom), { id: "find-frame" }));
    }
    tools.push(button("Copy name", () => this.actions.copy(name), { id: "copy-name" }));
    return tools;
  }
}
