// SPDX-License-Identifier: Apache-2.0

// Where the arrow keys lead from a frame.

import { widestChild } from "./profile.js";

/**
 * The frame that a key leads to, or the same frame where it leads nowhere.
 * Left and right walk along a row through every frame of it, also those too
 * narrow to be drawn; down goes to the widest callee.
 * @param {import("./profile.js").Profile} profile
 * @param {string} key as KeyboardEvent.key
 */
export function nextFrame(profile, zoom, current, key) {
  switch (key) {
    case "ArrowUp":
      return Math.max(0, profile.parent[current]);
    case "ArrowDown": {
      // Above the zoomed frame the only way down on the screen is to it.
      if (current < zoom && profile.end[current] >= profile.end[zoom]) return ancestorBelow(profile, zoom, current);
      const child = widestChild(profile, current);
      return child < 0 ? current : child;
    }
    case "ArrowLeft":
      return along(profile, zoom, current, -1);
    case "ArrowRight":
      return along(profile, zoom, current, 1);
    case "Home":
      return zoom;
  }
  return current;
}

/** The frame below ancestor on the way to node. */
function ancestorBelow(profile, node, ancestor) {
  let i = node;
  while (profile.parent[i] !== ancestor) i = profile.parent[i];
  return i;
}

/** The next frame of the same depth inside the zoomed subtree. */
function along(profile, zoom, current, direction) {
  const depth = profile.depth[current];
  for (let i = current + direction; i > zoom && i < profile.end[zoom]; i += direction) {
    if (profile.depth[i] === depth) return i;
  }
  return current;
}
