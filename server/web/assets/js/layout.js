// SPDX-License-Identifier: Apache-2.0

// From values to boxes: what is drawn where when one frame has the full width.

/** Frames narrower than this many CSS pixels are merged into slivers. */
export const NARROWEST = 0.5;

/**
 * @typedef {object} Box one rectangle of a row
 * @property {"frame"|"narrow"|"unsent"} kind a frame; a sliver of what is too
 *   narrow; the rest of a frame's callees that the server did not send
 * @property {number} node the frame; of a sliver its largest frame; of a rest
 *   the frame it belongs to
 * @property {number} first its nodes are from here, at its row or deeper
 * @property {number} end and before here
 * @property {number} x0 left edge in CSS pixels
 * @property {number} x1 right edge
 * @property {number} count how many frames of its row are in it
 * @property {number} value
 */

/**
 * Lays out the subtree of zoom over width pixels, below the ancestors of zoom,
 * which have the full width too. Rows are indexed by depth, their boxes sorted
 * from left to right.
 * @param {import("./profile.js").Profile} profile
 * @returns {Box[][]}
 */
export function layOut(profile, zoom, width) {
  /** @type {Box[][]} */
  const rows = [];
  for (let i = profile.parent[zoom]; i >= 0; i = profile.parent[i]) {
    rows[profile.depth[i]] = [frameBox(profile, i, 0, width)];
  }
  const scale = profile.totals[zoom] > 0 ? width / profile.totals[zoom] : 0;
  const pixel = (value) => (value - profile.start[zoom]) * scale;
  /** @type {number[]} frames whose rest comes after their last child */
  const open = [];
  const closeUntil = (next) => {
    while (open.length > 0 && profile.end[open.at(-1)] <= next) {
      const i = open.pop();
      const right = profile.start[i] + profile.totals[i] - profile.selfs[i];
      add(rows, profile, profile.depth[i] + 1, restBox(profile, i, pixel(right - profile.unsent[i]), pixel(right)));
    }
  };
  for (let i = zoom; i < profile.end[zoom];) {
    closeUntil(i);
    const start = profile.start[i];
    const box = frameBox(profile, i, pixel(start), pixel(start + profile.totals[i]));
    add(rows, profile, profile.depth[i], box);
    if (profile.unsent[i] > 0 && box.kind === "frame") open.push(i);
    i = box.kind === "frame" ? i + 1 : profile.end[i];
  }
  closeUntil(profile.end[zoom]);
  return rows;
}

function frameBox(profile, node, x0, x1) {
  return { kind: "frame", node, first: node, end: profile.end[node], x0, x1, count: 1, value: profile.totals[node] };
}

function restBox(profile, node, x0, x1) {
  const end = profile.end[node];
  return { kind: "unsent", node, first: end, end, x0, x1, count: 0, value: profile.unsent[node] };
}

/** Puts a box at the end of its row; what is too narrow joins the sliver there. */
function add(rows, profile, depth, box) {
  const row = (rows[depth] ??= []);
  if (box.x1 - box.x0 < NARROWEST) {
    box.kind = "narrow";
    const last = row.at(-1);
    if (last?.kind === "narrow" && box.x0 - last.x1 < 1) {
      merge(profile, last, box);
      return;
    }
  }
  row.push(box);
}

function merge(profile, sliver, box) {
  if (sliver.count === 0 || (box.count > 0 && profile.totals[box.node] > profile.totals[sliver.node])) {
    sliver.node = box.node;
  }
  sliver.end = box.end;
  sliver.x1 = box.x1;
  sliver.count += box.count;
  sliver.value += box.value;
}

/** The box of a row at x, or null. A box counts as at least a pixel wide. */
export function boxAt(row, x) {
  let low = 0;
  let high = row.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[middle].x0 <= x) low = middle + 1;
    else high = middle;
  }
  const box = row[low - 1];
  return box !== undefined && x < Math.max(box.x1, box.x0 + 1) ? box : null;
}
