// SPDX-License-Identifier: Apache-2.0

// The model: one flame graph as the server sent it, in columns.
//
// Node i has its descendants at i+1 … end[i]-1 (pre-order), so a walk over a
// subtree is a loop and skipping one is an assignment.

/**
 * @typedef {object} Profile
 * @property {number} from start of the range, Unix milliseconds
 * @property {number} to end of the range, Unix milliseconds
 * @property {number} oldest time of the oldest stored data, 0 if none
 * @property {number} newest time of the newest stored data, 0 if none
 * @property {string} unit of all values
 * @property {number} total value of everything
 * @property {number} samples
 * @property {number} profiles
 * @property {number} hosts
 * @property {number} skipped stored profiles that could not be read
 * @property {number} hidden value not shown in a node of its own
 * @property {string[]} names
 * @property {string[]} objects
 * @property {number} size number of nodes
 * @property {Int32Array} name index into names
 * @property {Int32Array} object index into objects
 * @property {Int32Array} depth 0 for the root
 * @property {Int32Array} parent -1 for the root
 * @property {Int32Array} end one past the last descendant
 * @property {Float64Array} totals value of a node and all below it
 * @property {Float64Array} selfs value of a node itself
 * @property {Float64Array} start where a node begins, in values from the left
 * @property {Float64Array} unsent value below a node that has no node
 */

/**
 * Reads the answer of /api/v1/flamegraph.
 * @returns {Profile}
 * @throws {Error} if it is not what the API promises
 */
export function parseProfile(answer) {
  const { names, objects, nodes } = answer;
  if (![names, objects, nodes].every(Array.isArray)) {
    throw new Error("read flame graph: names, objects or nodes are missing");
  }
  const profile = { ...answer, ...columns(nodes.length), size: nodes.length };
  delete profile.nodes;
  readNodes(profile, nodes);
  placeNodes(profile);
  return profile;
}

function columns(size) {
  return {
    name: new Int32Array(size),
    object: new Int32Array(size),
    depth: new Int32Array(size),
    parent: new Int32Array(size).fill(-1),
    end: new Int32Array(size),
    totals: new Float64Array(size),
    selfs: new Float64Array(size),
    start: new Float64Array(size),
    unsent: new Float64Array(size),
  };
}

/** Fills the columns that the answer has, and parent and end from the depths. */
function readNodes(p, nodes) {
  /** @type {number[]} the nodes on the way from the root to the current one */
  const open = [];
  for (let i = 0; i < nodes.length; i++) {
    const [name, object, depth, total, self] = nodes[i];
    if (!isIndex(name, p.names) || !isIndex(object, p.objects) || !(total >= self && self >= 0)) {
      throw new Error(`read flame graph: node ${i} is malformed`);
    }
    if (!Number.isInteger(depth) || depth > open.length || depth < Math.min(i, 1)) {
      throw new Error(`read flame graph: node ${i} has no parent`);
    }
    p.name[i] = name;
    p.object[i] = object;
    p.depth[i] = depth;
    p.totals[i] = total;
    p.selfs[i] = self;
    while (open.length > depth) p.end[open.pop()] = i;
    if (depth > 0) p.parent[i] = open[depth - 1];
    open.push(i);
  }
  for (const i of open) p.end[i] = nodes.length;
}

const isIndex = (i, list) => Number.isInteger(i) && i >= 0 && i < list.length;

/** Gives every node its place: children from the left, in order. */
function placeNodes(p) {
  const next = new Float64Array(p.size);
  for (let i = 0; i < p.size; i++) {
    const parent = p.parent[i];
    if (parent >= 0) {
      p.start[i] = next[parent];
      next[parent] += p.totals[i];
    }
    next[i] = p.start[i];
  }
  for (let i = 0; i < p.size; i++) {
    p.unsent[i] = Math.max(0, p.start[i] + p.totals[i] - p.selfs[i] - next[i]);
  }
}

export const nameOf = (profile, node) => profile.names[profile.name[node]];
export const objectOf = (profile, node) => profile.objects[profile.object[node]];

/** The nodes from the root down to node, both included. */
export function pathTo(profile, node) {
  const path = [];
  for (let i = node; i >= 0; i = profile.parent[i]) path.push(i);
  return path.reverse();
}

/** The children of node, in order. */
export function* childrenOf(profile, node) {
  for (let i = node + 1; i < profile.end[node]; i = profile.end[i]) yield i;
}

/** The child with the largest total, or -1. */
export function widestChild(profile, node) {
  let widest = -1;
  for (const child of childrenOf(profile, node)) {
    if (widest < 0 || profile.totals[child] > profile.totals[widest]) widest = child;
  }
  return widest;
}

/** Whether a name is a remark of the profiler about what is missing. */
export function isMarker(name) {
  return name.startsWith("[truncated") || name.startsWith("[lost");
}
