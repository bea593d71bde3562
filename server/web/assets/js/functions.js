// SPDX-License-Identifier: Apache-2.0

// The rows of the table: what each function costs itself and with its callees.

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} object
 * @property {number} self
 * @property {number} total recursion counted once
 */

/**
 * Sums up the functions at and below zoom. Frames above level are not code (the
 * root, the values of the label that groups) and are left out.
 * @param {import("./profile.js").Profile} profile
 * @returns {Row[]}
 */
export function sumFunctions(profile, zoom, level) {
  /** @type {Map<number, Row & {open: number}>} open: end of the outermost frame now on the stack */
  const rows = new Map();
  for (let i = zoom; i < profile.end[zoom]; i++) {
    if (profile.depth[i] < level) continue;
    const key = profile.name[i] * profile.objects.length + profile.object[i];
    let row = rows.get(key);
    if (row === undefined) {
      row = { name: profile.names[profile.name[i]], object: profile.objects[profile.object[i]], self: 0, total: 0, open: 0 };
      rows.set(key, row);
    }
    row.self += profile.selfs[i];
    if (i >= row.open) {
      row.total += profile.totals[i];
      row.open = profile.end[i];
    }
  }
  return [...rows.values()];
}

/** Sorts rows in place by a column; names break ties, so the order is stable. */
export function sortRows(rows, column, descending) {
  const sign = descending ? -1 : 1;
  const text = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return rows.sort((a, b) => {
    const first = typeof a[column] === "string" ? text(a[column], b[column]) : a[column] - b[column];
    return sign * first || text(a.name, b.name) || text(a.object, b.object);
  });
}
