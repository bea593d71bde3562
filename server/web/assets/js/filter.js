// SPDX-License-Identifier: Apache-2.0

// The filter: a field for the selector, and a chip for each of its matchers.

import { button, clip, element } from "./dom.js";
import { formatMatcher, formatSelector, parseSelector } from "./selector.js";

const LONGEST_CHIP = 80;

export class Filter {
  /**
   * @param {HTMLFormElement} form
   * @param {HTMLInputElement} input
   * @param {HTMLElement} chips
   * @param {(query: string) => void} change
   */
  constructor(form, input, chips, change) {
    Object.assign(this, { form, input, chips, change });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply();
    });
  }

  apply() {
    this.change(this.input.value.trim());
  }

  /** @param {string} query */
  show(query) {
    // A refresh must not take away what somebody is typing.
    if (query === this.shown) return;
    this.shown = query;
    this.input.value = query;
    const matchers = parseSelector(query) ?? [];
    this.chips.hidden = matchers.length === 0;
    this.chips.replaceChildren(...matchers.map((matcher, index) => {
      const text = clip(formatMatcher(matcher), LONGEST_CHIP);
      const remove = button("×", () => this.change(formatSelector(matchers.toSpliced(index, 1))), {
        "aria-label": `Remove the filter ${text}`,
      });
      return element("li", {}, element("bdi", {}, text), remove);
    }));
  }
}
