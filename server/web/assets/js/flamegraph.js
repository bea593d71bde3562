// SPDX-License-Identifier: Apache-2.0

// The flame graph as people meet it: hover, click, keys. The canvas holds the
// picture; the frame under the pointer and the current frame of the keyboard
// are elements above it, so moving either paints nothing, and assistive
// technology has an element to read.

import { Painter, ROW } from "./canvas.js";
import { Palette } from "./color.js";
import { clip, element } from "./dom.js";
import { boxAt, layOut } from "./layout.js";
import { nextFrame } from "./navigate.js";
import { nameOf, objectOf } from "./profile.js";
import { Tooltip, describe } from "./tooltip.js";
import { formatShare, formatValue } from "./units.js";
import { encodePath, resolvePath } from "./zoompath.js";

const MOVES = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home"]);
const LONGEST_LABEL = 300;

/**
 * @typedef {object} View what the graph shows
 * @property {import("./profile.js").Profile} profile
 * @property {number} zoom the frame that has the full width
 * @property {Uint8Array|null} marked frames that a search matches
 * @property {number} group depth of the frames that are label values, or -1
 */

export class FlameGraph {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} tooltip
   * @param {{zoom: (node: number) => void, copy: (text: string) => void}} actions
   */
  constructor(root, tooltip, actions) {
    this.root = root;
    this.actions = actions;
    this.tooltip = new Tooltip(tooltip);
    const canvas = element("canvas", { "aria-hidden": "true" });
    this.painter = new Painter(canvas);
    this.hovered = element("div", { className: "flame-hover", hidden: true });
    this.cursor = element("div", { className: "flame-cursor", id: "flame-cursor", role: "treeitem", hidden: true });
    root.append(canvas, this.hovered, this.cursor);
    root.dataset.rowHeight = String(ROW);
    /** @type {View|null} */
    this.view = null;
    this.rows = [];
    this.current = 0;
    this.#listen();
  }

  /** @param {View} view */
  show(view) {
    const before = this.view;
    this.view = view;
    if (before?.profile !== view.profile) {
      this.painter.reset();
      this.#unhover();
      if (before) this.current = resolvePath(view.profile, encodePath(before.profile, this.current)).node;
    }
    if (!this.#isShown(this.current)) this.current = view.zoom;
    this.#arrange();
  }

  /** Whether a frame is the zoomed one, above it or below it. */
  #isShown(node) {
    const { profile, zoom } = this.view;
    const [outer, inner] = node < zoom ? [node, zoom] : [zoom, node];
    return inner < profile.end[outer];
  }

  /** Lays out and paints for the current width and theme. */
  #arrange() {
    if (this.view === null) return;
    this.width = this.root.clientWidth;
    if (this.width === 0) return;
    const { profile, zoom, group } = this.view;
    this.rows = layOut(profile, zoom, this.width);
    this.palette = new Palette(profile, matchMedia("(prefers-color-scheme: dark)").matches, group);
    this.root.style.height = `${this.rows.length * ROW}px`;
    this.#exposeState();
    this.#placeCursor();
    this.#paint(true);
  }

  #exposeState() {
    const { profile, zoom } = this.view;
    const boxes = this.rows.flat();
    Object.assign(this.root.dataset, {
      zoom: clip(nameOf(profile, zoom), LONGEST_LABEL),
      zoomDepth: profile.depth[zoom],
      rows: this.rows.length,
      frames: boxes.filter((box) => box.kind === "frame").length,
      slivers: boxes.filter((box) => box.kind === "narrow").length,
      rests: boxes.filter((box) => box.kind === "unsent").length,
    });
  }

  /** Paints if forced or if the visible part has left what is painted. */
  #paint(force) {
    if (this.view === null || this.rows.length === 0 || this.width === 0) return;
    const { top } = this.root.getBoundingClientRect();
    if (!force && !this.painter.isOutside(-top, window.innerHeight - top)) return;
    const background = getComputedStyle(this.root).backgroundColor;
    const scene = { rows: this.rows, palette: this.palette, background, ...this.view };
    this.painter.paint(scene, this.width, -top, window.innerHeight - top);
  }

  #listen() {
    const { root } = this;
    root.addEventListener("pointermove", (event) => this.#hover(event));
    root.addEventListener("pointerleave", () => this.#unhover());
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("focus", () => this.#placeCursor());
    root.addEventListener("blur", () => this.tooltip.hide());
    document.addEventListener("scroll", () => this.#paint(false), { passive: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#arrange());
    new ResizeObserver(() => {
      if (this.root.clientWidth !== this.width) this.#arrange();
    }).observe(root);
  }

  /** The box under a pointer event, with its row. */
  #boxUnder(event) {
    const { left, top } = this.root.getBoundingClientRect();
    const row = Math.floor((event.clientY - top) / ROW);
    const box = boxAt(this.rows[row] ?? [], event.clientX - left);
    return box && { box, row };
  }

  #hover(event) {
    const under = this.#boxUnder(event);
    if (!under) {
      this.#unhover();
      return;
    }
    if (this.under !== under.box) {
      this.under = under.box;
      place(this.hovered, under.box.x0, under.box.x1, under.row);
      this.tooltip.show(describe(this.view.profile, this.view.zoom, under.box));
    }
    this.tooltip.moveTo(event.clientX, event.clientY);
  }

  #unhover() {
    this.under = null;
    this.hovered.hidden = true;
    this.tooltip.hide();
  }

  #click(event) {
    const under = this.#boxUnder(event);
    if (under) this.#zoom(under.box.node);
  }

  #zoom(node) {
    this.#unhover();
    this.current = node;
    this.actions.zoom(node);
  }

  #key(event) {
    if (this.view === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const { profile, zoom } = this.view;
    if (MOVES.has(event.key)) {
      this.current = nextFrame(profile, zoom, this.current, event.key);
      this.#placeCursor();
      this.cursor.scrollIntoView({ block: "nearest" });
      this.#describeCursor();
    } else if (event.key === "Enter" || event.key === " ") {
      this.#zoom(this.current);
    } else if (event.key === "c") {
      this.actions.copy(nameOf(profile, this.under?.node ?? this.current));
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Puts the cursor over the current frame and names it for screen readers. */
  #placeCursor() {
    if (this.view === null) return;
    const { profile, zoom } = this.view;
    const { current } = this;
    const [x0, x1] = this.#extent();
    place(this.cursor, x0, x1, profile.depth[current]);
    const object = objectOf(profile, current);
    const label = `${clip(nameOf(profile, current), LONGEST_LABEL)}${object && `, ${clip(object, LONGEST_LABEL)}`}, ` +
      `total ${formatValue(profile.totals[current], profile.unit)}, ${formatShare(profile.totals[current], profile.total)}, ` +
      `self ${formatValue(profile.selfs[current], profile.unit)}`;
    this.cursor.setAttribute("aria-label", label);
    this.cursor.setAttribute("aria-level", String(profile.depth[current] + 1));
    this.cursor.setAttribute("aria-selected", String(current === zoom));
  }

  /** Left and right edge of the current frame, which a sliver may hide. */
  #extent() {
    const { profile, zoom } = this.view;
    if (profile.depth[this.current] <= profile.depth[zoom]) return [0, this.width];
    const scale = this.width / profile.totals[zoom];
    const left = (profile.start[this.current] - profile.start[zoom]) * scale;
    return [left, left + profile.totals[this.current] * scale];
  }

  #describeCursor() {
    const { profile, zoom } = this.view;
    const box = { kind: "frame", node: this.current, count: 1, value: profile.totals[this.current] };
    this.tooltip.show(describe(profile, zoom, box));
    const { left, bottom } = this.cursor.getBoundingClientRect();
    this.tooltip.moveTo(left, bottom);
  }
}

/** Puts a mark over a box; it is at least three pixels wide, so as to be seen. */
function place(mark, x0, x1, row) {
  mark.style.left = `${x0}px`;
  mark.style.width = `${Math.max(3, x1 - x0)}px`;
  mark.style.top = `${row * ROW}px`;
  mark.style.height = `${ROW - 1}px`;
  mark.hidden = false;
}
