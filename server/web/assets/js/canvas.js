// SPDX-License-Identifier: Apache-2.0

// Painting boxes. The painter owns one canvas that covers the part of the
// graph on the screen, and a bit more, because a canvas as tall as a thousand
// frames is larger than browsers allow.

import { clip } from "./dom.js";
import { nameOf } from "./profile.js";
import { MARKER, MATCH } from "./color.js";

/** Height of a row in CSS pixels. */
export const ROW = 19;
/** How far above and below the screen is painted, in CSS pixels. */
const OVERSCAN = 500;
/** Frames narrower than this get no text. */
const NARROWEST_TEXT = 22;
const PADDING = 5;
/** Longest text worth measuring: no screen is wider. */
const LONGEST_TEXT = 400;
const FONT = "12px system-ui, sans-serif";

/** A name without the folders of its package: "net/http.(*conn).serve" → "http.(*conn).serve". */
function withoutFolders(name) {
  return name.replace(/^(?:[\w.~%@-]+\/)+(?=[\w.(])/, "");
}

export class Painter {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    /** @type {Map<string, number>} width of a text in CSS pixels */
    this.widths = new Map();
    this.top = 0;
    this.bottom = 0;
  }

  /** Forgets the texts of the last profile. */
  reset() {
    this.widths.clear();
  }

  /**
   * Whether what is painted no longer covers the visible part.
   * @param {number} top first visible CSS pixel of the graph
   * @param {number} bottom one past the last
   */
  isOutside(top, bottom) {
    return top < this.top || bottom > this.bottom;
  }

  /**
   * Paints the rows around the visible part and moves the canvas there.
   * @param {object} scene
   * @param {import("./layout.js").Box[][]} scene.rows
   * @param {import("./profile.js").Profile} scene.profile
   * @param {import("./color.js").Palette} scene.palette
   * @param {Uint8Array|null} scene.marked frames that a search matches
   * @param {string} scene.background
   * @param {number} width of the graph in CSS pixels
   */
  paint(scene, width, top, bottom) {
    const height = scene.rows.length * ROW;
    this.top = Math.max(0, Math.floor((Math.min(top, height) - OVERSCAN) / ROW) * ROW);
    this.bottom = Math.min(height, Math.max(bottom, 0) + OVERSCAN);
    if (this.bottom === height) this.bottom = Infinity;
    this.#resize(width, Math.max(ROW, Math.min(this.bottom, height) - this.top));
    this.context.fillStyle = scene.background;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const last = Math.min(scene.rows.length, Math.ceil(Math.min(this.bottom, height) / ROW));
    for (let row = Math.floor(this.top / ROW); row < last; row++) {
      for (const box of scene.rows[row] ?? []) this.#paintBox(scene, box, row * ROW - this.top);
    }
  }

  #resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const { canvas, context } = this;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.style.top = `${this.top}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = FONT;
    context.textBaseline = "middle";
    context.direction = "ltr";
    this.ratio = ratio;
    this.stripes = stripes(context, "rgba(255,255,255,0.22)");
  }

  #paintBox(scene, box, y) {
    const { ratio } = this;
    const left = Math.round(box.x0 * ratio) / ratio;
    const right = Math.round(box.x1 * ratio) / ratio;
    const gap = right - left > 2 ? 1 : 0;
    const width = Math.max(right - left - gap, box.kind === "frame" ? 0.5 : 1);
    if (box.kind === "frame") this.#paintFrame(scene, box.node, left, y, width);
    else this.#paintRest(scene, box, left, y, width);
  }

  #paintFrame({ profile, palette, marked }, node, x, y, width) {
    const { context } = this;
    const name = nameOf(profile, node);
    const ink = marked?.[node] === 1 ? MATCH : palette.ink(node, marked !== null);
    context.fillStyle = ink.fill;
    context.fillRect(x, y, width, ROW - 1);
    if (ink === MARKER) this.#stripe(x, y, width);
    if (width < NARROWEST_TEXT) return;
    context.fillStyle = ink.text;
    context.fillText(this.#fit(name, width - 2 * PADDING), x + PADDING, y + ROW / 2);
  }

  #paintRest(scene, box, x, y, width) {
    this.context.fillStyle = hidesMatch(scene, box) ? MATCH.fill : scene.palette.sliver;
    this.context.fillRect(x, y, width, ROW - 1);
    if (box.kind === "unsent") this.#stripe(x, y, width);
  }

  #stripe(x, y, width) {
    this.context.fillStyle = this.stripes;
    this.context.fillRect(x, y, width, ROW - 1);
  }

  #measure(text) {
    let width = this.widths.get(text);
    if (width === undefined) {
      width = this.context.measureText(text).width;
      this.widths.set(text, width);
    }
    return width;
  }

  /** As much of a name as fits: all, without folders, or its beginning. */
  #fit(name, room) {
    const whole = clip(name, LONGEST_TEXT);
    if (this.#measure(whole) <= room) return whole;
    const text = clip(withoutFolders(name), LONGEST_TEXT);
    const width = this.#measure(text);
    if (width <= room) return text;
    let cut = clip(text, Math.max(2, Math.ceil((text.length * room) / width)));
    while (cut.length > 2 && this.context.measureText(cut).width > room) cut = clip(text, cut.length - 1);
    return cut.length > 2 ? cut : "";
  }
}

/** Whether a sliver hides a match. */
function hidesMatch({ marked }, box) {
  return marked !== null && marked.subarray(box.first, box.end).includes(1);
}

/** A pattern of diagonal lines. */
function stripes(context, color) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const t = tile.getContext("2d");
  t.strokeStyle = color;
  t.lineWidth = 2.5;
  t.beginPath();
  for (const x of [-8, 0, 8]) {
    t.moveTo(x - 2, 10);
    t.lineTo(x + 10, -2);
  }
  t.stroke();
  return context.createPattern(tile, "repeat");
}
