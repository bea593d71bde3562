// SPDX-License-Identifier: Apache-2.0

// A frame's address that survives a refresh and fits into a URL: for each
// frame from below the root down to it, four characters of a hash of name and
// object. Names themselves would not fit (a thousand frames of C++). Siblings
// that share a hash (1 in 16 million) are mistaken for each other, no more.

import { childrenOf, nameOf, objectOf, pathTo } from "./profile.js";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STEP = 4;

/** FNV-1a over UTF-16 units, 32 bits, http://www.isthe.com/chongo/tech/comp/fnv/ */
export function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  }
  return (h ^ (h >>> 15)) >>> 0;
}

function step(profile, node) {
  let h = hash(`${nameOf(profile, node)}\n${objectOf(profile, node)}`);
  let text = "";
  for (let i = 0; i < STEP; i++, h >>>= 6) text += DIGITS[h & 63];
  return text;
}

/** The address of node; "" is the root. */
export function encodePath(profile, node) {
  return pathTo(profile, node).slice(1).map((i) => step(profile, i)).join("");
}

/**
 * Finds the frame at an address, or its nearest ancestor that is there.
 * @returns {{node: number, found: boolean}}
 */
export function resolvePath(profile, address) {
  let node = 0;
  for (let at = 0; at < address.length; at += STEP) {
    const wanted = address.slice(at, at + STEP);
    const child = childrenOf(profile, node).find((i) => step(profile, i) === wanted);
    if (child === undefined) return { node, found: false };
    node = child;
  }
  return { node, found: true };
}
