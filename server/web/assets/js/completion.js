// SPDX-License-Identifier: Apache-2.0

// Completion of the filter field: label names and values, from the server.
// https://www.w3.org/WAI/ARIA/apg/patterns/combobox/

import { clip, element } from "./dom.js";
import { findGap, formatSelector, literalFor, parseSelector } from "./selector.js";

/** Options shown at once; typing narrows them down. */
const MOST_OPTIONS = 100;
const LONGEST_OPTION = 200;

/**
 * @typedef {object} Source where options come from
 * @property {(selector: string, signal: AbortSignal) => Promise<string[]>} names
 * @property {(name: string, selector: string, signal: AbortSignal) => Promise<string[]>} values
 */

export class Completion {
  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list
   * @param {Source} source
   * @param {() => void} complete called when a completion makes a whole selector
   */
  constructor(input, list, source, complete) {
    Object.assign(this, { input, list, source, complete });
    this.abort = new AbortController();
    /** @type {string[]} */
    this.options = [];
    this.active = -1;
    input.addEventListener("input", () => this.#suggest());
    input.addEventListener("focus", () => this.#suggest());
    input.addEventListener("click", () => this.#suggest());
    input.addEventListener("blur", () => this.close());
    input.addEventListener("keydown", (event) => this.#key(event));
    // A press must not take the focus away before the click arrives.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#choose(this.options[Number(option.dataset.index)]);
    });
  }

  close() {
    this.abort.abort();
    this.options = [];
    this.active = -1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  async #suggest() {
    this.abort.abort();
    const { signal } = (this.abort = new AbortController());
    this.gap = findGap(this.input.value.slice(0, this.input.selectionStart));
    if (!this.gap) {
      this.close();
      return;
    }
    const others = formatSelector(this.gap.before);
    try {
      const all = this.gap.kind === "name"
        ? await this.source.names(others, signal)
        : await this.source.values(this.gap.name, others, signal);
      if (!signal.aborted) this.#open(all);
    } catch {
      // Completion is a convenience: what is wrong with the selector or with
      // the server shows when the filter is applied.
      if (!signal.aborted) this.close();
    }
  }

  #open(all) {
    const typed = this.gap.prefix.toLowerCase();
    const begins = (text) => (text.toLowerCase().startsWith(typed) ? 0 : 1);
    const options = all
      .filter((text) => text.toLowerCase().includes(typed))
      .sort((a, b) => begins(a) - begins(b))
      .slice(0, MOST_OPTIONS);
    if (options.length === 0) {
      this.close();
      return;
    }
    // What stays as it is stays in its place: someone may be pressing on it.
    if (JSON.stringify(options) === JSON.stringify(this.options)) return;
    this.options = options;
    this.active = -1;
    this.input.removeAttribute("aria-activedescendant");
    this.list.replaceChildren(...this.options.map((text, index) => element(
      "li",
      { role: "option", id: `completion-${index}`, "data-index": index, "aria-selected": "false" },
      element("bdi", {}, text === "" ? "(absent)" : clip(text, LONGEST_OPTION)),
    )));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  #key(event) {
    if (this.options.length === 0) return;
    switch (event.key) {
      case "ArrowDown":
        this.#activate((this.active + 1) % this.options.length);
        break;
      case "ArrowUp":
        this.#activate((this.active <= 0 ? this.options.length : this.active) - 1);
        break;
      case "Tab":
        if (event.shiftKey) return;
        this.#choose(this.options[Math.max(0, this.active)]);
        break;
      case "Enter":
        if (this.active < 0) return;
        this.#choose(this.options[this.active]);
        break;
      case "Escape":
        this.close();
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #activate(index) {
    this.list.children[this.active]?.setAttribute("aria-selected", "false");
    this.active = index;
    const option = this.list.children[index];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  /** Puts an option into the field, and what must follow it. */
  #choose(option) {
    const { input, gap } = this;
    const head = input.value.slice(0, gap.from);
    const tail = input.value.slice(input.selectionStart);
    const begun = head.trim() === "" ? "{" : head;
    const text = gap.kind === "name" ? `${begun}${option}=` : begun + literalFor(gap.op, option);
    const rest = gap.kind === "name" ? tail.replace(/^\w*\s*(=~|!~|!=|=)?/, "") : tail.replace(/^[^",{}]*"?/, "");
    input.value = text + (gap.kind === "value" && rest.trim() === "" ? "}" : rest);
    input.setSelectionRange(text.length, text.length);
    if (gap.kind === "name") {
      this.#suggest();
      return;
    }
    this.close();
    if (parseSelector(input.value)) this.complete();
  }
}
