// SPDX-License-Identifier: Apache-2.0

// Colours of frames. A frame's hue tells its object, the same on every page
// and day. Colours are made in OKLCH, where equal lightness looks equally
// light, so text keeps its contrast on every hue.
// https://www.w3.org/TR/css-color-4/#ok-lab

import { isMarker } from "./profile.js";
import { hash } from "./zoompath.js";

const KERNEL_HUE = 55;
/** Hues of objects stay clear of the kernel's, the matches' and the markers'. */
const OBJECT_HUES = [120, 330];

/**
 * @typedef {object} Ink how to paint one kind of frame
 * @property {string} fill
 * @property {string} text
 */

const THEMES = {
  light: {
    frame: (hue, shade) => `oklch(${0.83 + 0.025 * shade} 0.085 ${hue})`,
    faded: (hue) => `oklch(0.945 0.018 ${hue})`,
    neutral: ["oklch(0.88 0.006 260)", "oklch(0.95 0.004 260)"],
    group: ["oklch(0.80 0.02 260)", "oklch(0.92 0.01 260)"],
    text: "#15171c",
    fadedText: "#565b66",
    sliver: "#868c98",
  },
  dark: {
    frame: (hue, shade) => `oklch(${0.40 + 0.025 * shade} 0.075 ${hue})`,
    faded: (hue) => `oklch(0.275 0.02 ${hue})`,
    neutral: ["oklch(0.36 0.008 260)", "oklch(0.26 0.006 260)"],
    group: ["oklch(0.44 0.025 260)", "oklch(0.29 0.012 260)"],
    text: "#f1f2f5",
    fadedText: "#a4a9b4",
    sliver: "#7d838f",
  },
};

/** The hue of an object in degrees. */
export function hueOf(object) {
  if (object.startsWith("[kernel")) return KERNEL_HUE;
  const [from, to] = OBJECT_HUES;
  return from + (hash(object) % (to - from));
}

/** Colours that mean the same in both themes. */
export const MATCH = { fill: "oklch(0.87 0.175 95)", text: "#15171c" };
export const MARKER = { fill: "oklch(0.53 0.23 358)", text: "#ffffff" };

/**
 * The colours of one profile in one theme. group is the depth of the frames
 * that are label values, or -1.
 */
export class Palette {
  constructor(profile, dark, group) {
    this.theme = dark ? THEMES.dark : THEMES.light;
    this.profile = profile;
    this.group = group;
    this.hues = profile.objects.map(hueOf);
    /** @type {Map<number, Ink>} */
    this.inks = new Map();
  }

  get sliver() {
    return this.theme.sliver;
  }

  /**
   * The colours of a frame; faded while a search matches others.
   * @returns {Ink}
   */
  ink(node, faded) {
    const name = this.profile.name[node];
    const key = (name * this.hues.length + this.profile.object[node]) * 4 +
      (this.profile.depth[node] === this.group ? 2 : 0) + (faded ? 1 : 0);
    let ink = this.inks.get(key);
    if (ink === undefined) {
      ink = { fill: this.#fill(node, faded), text: faded ? this.theme.fadedText : this.theme.text };
      if (isMarker(this.profile.names[name]) && !faded) ink = MARKER;
      this.inks.set(key, ink);
    }
    return ink;
  }

  #fill(node, faded) {
    const { theme, profile } = this;
    if (profile.depth[node] === this.group) return theme.group[faded ? 1 : 0];
    const object = profile.object[node];
    if (profile.objects[object] === "") return theme.neutral[faded ? 1 : 0];
    if (faded) return theme.faded(this.hues[object]);
    return theme.frame(this.hues[object], (hash(profile.names[profile.name[node]]) % 3) - 1);
  }
}
