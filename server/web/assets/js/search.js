// SPDX-License-Identifier: Apache-2.0

// What a search means, and how much of a profile it matches.

import { pathTo } from "./profile.js";

/**
 * Compiles what was typed: plain text is found anywhere in a name, in either
 * case; /text/ and /text/i are regular expressions.
 * @returns {((name: string) => boolean)|null} null for an empty search
 * @throws {SyntaxError} for a malformed regular expression
 */
export function compileSearch(text) {
  if (text === "") return null;
  const pattern = /^\/(.+)\/(i?)$/s.exec(text);
  if (pattern) {
    const expression = new RegExp(pattern[1], pattern[2] + "u");
    return (name) => expression.test(name);
  }
  const wanted = text.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}

/**
 * Marks the nodes whose name matches. The root is no frame and never matches.
 * @param {import("./profile.js").Profile} profile
 * @returns {Uint8Array} 1 for each node that matches
 */
export function matchNames(profile, matches) {
  const byName = Uint8Array.from(profile.names, (name) => (matches(name) ? 1 : 0));
  const marked = new Uint8Array(profile.size);
  for (let i = 1; i < profile.size; i++) marked[i] = byName[profile.name[i]];
  return marked;
}

/** Marks the nodes of one function of one object. */
export function matchFunction(profile, name, object) {
  const marked = new Uint8Array(profile.size);
  for (let i = 1; i < profile.size; i++) {
    if (profile.names[profile.name[i]] === name && profile.objects[profile.object[i]] === object) marked[i] = 1;
  }
  return marked;
}

/**
 * The value of the marked frames at and below zoom, those inside each other
 * counted once. Everything below a marked frame is matched by it.
 */
export function matchedValue(profile, marked, zoom) {
  if (pathTo(profile, zoom).some((i) => marked[i])) return profile.totals[zoom];
  let value = 0;
  for (let i = zoom; i < profile.end[zoom];) {
    if (marked[i]) {
      value += profile.totals[i];
      i = profile.end[i];
    } else {
      i++;
    }
  }
  return value;
}
