// SPDX-License-Identifier: Apache-2.0

// Asking for more samples, for a time, of what the filter selects.

import { selectorOf } from "./policy.js";

/** Who the policy says it was: the page knows nobody's name. */
const BY = "page";

export class BoostForm {
  /**
   * @param {HTMLDetailsElement} menu holds the form
   * @param {HTMLFormElement} form with inputs named frequency, time and reason
   * @param {{query: () => string, post: (boost: object) => Promise<{body: any, headers: Headers}>,
   *   done: (answer: {body: any, headers: Headers}) => void}} actions
   */
  constructor(menu, form, actions) {
    Object.assign(this, { menu, form, actions });
    menu.addEventListener("toggle", () => this.show());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Shows what would be boosted now. Faults are those of another selector. */
  show() {
    const selector = selectorOf(this.actions.query());
    const { selected, fault } = this.form.elements;
    if (selected.value !== selector) fault.value = "";
    selected.value = selector;
    this.form.dataset.all = String(selector === "{}");
  }

  async #submit() {
    const { frequency, time, reason, selected, fault, send } = this.form.elements;
    const boost = { selector: selected.value, frequency: frequency.valueAsNumber, for: time.value, by: BY };
    if (reason.value.trim() !== "") boost.reason = reason.value;
    fault.value = "";
    send.disabled = true;
    try {
      const answer = await this.actions.post(boost);
      this.menu.open = false;
      reason.value = "";
      this.actions.done(answer);
    } catch (error) {
      fault.value = error.message;
    } finally {
      send.disabled = false;
    }
  }
}
