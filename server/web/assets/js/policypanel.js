// SPDX-License-Identifier: Apache-2.0

// What is collected: the rules of the policy, counting down, and their ends.

import { button, clip, element } from "./dom.js";
import { formatLeft, liveRules, parsePolicy, without } from "./policy.js";
import { formatCount, formatInstant } from "./units.js";

/** Between two looks for another policy, while the panel is open. */
const LOOK_MS = 5000;
const TICK_MS = 1000;
const LONGEST_TEXT = 1100;

const COLUMNS = ["", "Selector", "Does", "Ends in", "Reason", "By", ""];

export class PolicyPanel {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} toggle button that opens it and says how many rules there are
   * @param {{get: (signal: AbortSignal) => Promise<{body: any, headers: Headers}>,
   *   put: (document: object, tag: string) => Promise<{body: any, headers: Headers}>,
   *   filter: (selector: string) => void, note: (text: string) => void}} actions
   */
  constructor(root, toggle, actions) {
    Object.assign(this, { root, toggle, actions });
    /** @type {import("./policy.js").Policy|null} */
    this.policy = null;
    /** @type {import("./policy.js").Rule|null} the rule that is about to be removed */
    this.asking = null;
    /** What is wrong with the last look, and with the last change. */
    this.error = this.fault = "";
    this.title = element("h2", { tabIndex: -1, id: "policy-title" }, "Policy: what is collected");
    this.body = element("div");
    root.replaceChildren(this.title, this.body);
    this.abort = new AbortController();
  }

  /** Opens or closes it. */
  show(open) {
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open === !this.root.hidden) return;
    this.root.hidden = !open;
    clearInterval(this.ticking);
    if (!open) {
      clearTimeout(this.looking);
      return;
    }
    this.ticking = setInterval(() => this.#tick(), TICK_MS);
    this.#render();
    this.refresh();
  }

  /** Asks for the policy. A newer call, or a newer policy, ends an older one. */
  async refresh() {
    this.abort.abort();
    clearTimeout(this.looking);
    const { signal } = (this.abort = new AbortController());
    try {
      const answer = await this.actions.get(signal);
      if (!signal.aborted) this.#take(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.error = error.message;
      this.#render();
    }
    if (!signal.aborted) this.#lookLater();
  }

  /** Shows the policy of an answer: what it was changed to. */
  changed(answer) {
    this.abort.abort();
    this.fault = "";
    this.#take(answer);
    this.#lookLater();
  }

  /** Looks again after a while, if anybody sees it. */
  #lookLater() {
    clearTimeout(this.looking);
    if (this.root.hidden) return;
    this.looking = setTimeout(() => (document.hidden ? this.#lookLater() : this.refresh()), LOOK_MS);
  }

  #take(answer) {
    const policy = parsePolicy(answer, performance.now());
    const same = this.error === "" && this.policy?.tag === policy.tag;
    // The rules of the same version stay, and with them the focus on a button.
    if (same) this.policy.clock = policy.clock;
    else Object.assign(this, { policy, error: "", asking: null });
    if (same) this.#tick();
    else this.#render();
  }

  #now() {
    return this.policy.clock(performance.now());
  }

  #tick() {
    if (this.policy === null) return;
    const now = this.#now();
    const live = liveRules(this.policy, now);
    if (live.length !== this.shown.length) {
      this.#render();
      return;
    }
    for (const [i, left] of this.body.querySelectorAll("time").entries()) left.textContent = formatLeft(this.ending[i] - now);
  }

  #render() {
    const { policy } = this;
    const now = policy === null ? 0 : this.#now();
    this.shown = policy === null ? [] : liveRules(policy, now);
    this.ending = this.shown.map(({ until }) => until).filter(Number.isFinite);
    this.toggle.textContent = this.shown.length === 0 ? "Policy" : `Policy: ${formatCount(this.shown.length)} ${this.shown.length === 1 ? "rule" : "rules"}`;
    if (this.root.hidden) return;
    const parts = [];
    for (const text of [this.fault, this.error]) {
      if (text !== "") parts.push(element("p", { className: "error", role: "alert" }, text));
    }
    if (policy !== null) {
      parts.push(element("p", { className: "note" }, says(policy, this.shown.length)));
      if (this.shown.length > 0) parts.push(this.#rules(now));
    }
    this.body.replaceChildren(...parts);
  }

  #rules(now) {
    const head = COLUMNS.map((title) => (title === "" ? element("td") : element("th", { scope: "col" }, title)));
    return element("table", {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...this.shown.map((rule, i) => this.#rule(rule, i, now))),
    );
  }

  #rule(rule, index, now) {
    const text = clip(rule.selector, LONGEST_TEXT);
    const selector = button(text, () => this.actions.filter(rule.selector), { title: `${text}\nShow what it selects`, dir: "auto" });
    const left = rule.until === Infinity ? "no end"
      : element("time", { dateTime: new Date(rule.until).toISOString(), title: `at ${formatInstant(rule.until)}` }, formatLeft(rule.until - now));
    const cell = (className, ...content) => element("td", { className, dir: "auto" }, ...content);
    return element("tr", {},
      cell("number", formatCount(index + 1)),
      cell("selector", selector),
      cell("does", rule.what),
      cell("left", left),
      cell("reason", clip(rule.reason, LONGEST_TEXT)),
      cell("by", clip(rule.by, LONGEST_TEXT)),
      cell("ends", ...this.#ends(rule, text)),
    );
  }

  /** A boost ends at a click; of all others somebody is asked again. */
  #ends(rule, text) {
    if (rule.boost) return [button("End", () => this.#remove(rule), { "aria-label": `End the boost of ${text}` })];
    if (this.asking !== rule) {
      return [button("Remove…", () => this.#ask(rule), { "aria-label": `Remove the rule for ${text}` })];
    }
    return [
      button("Keep", () => this.#ask(null), { className: "keep", "aria-label": `Keep the rule for ${text}` }),
      button("Remove for all agents", () => this.#remove(rule), { className: "danger" }),
    ];
  }

  #ask(rule) {
    this.asking = rule;
    this.fault = "";
    this.#render();
    (this.body.querySelector(".keep") ?? this.title).focus();
  }

  async #remove(rule) {
    const { policy } = this;
    try {
      this.changed(await this.actions.put(without(policy, rule, this.#now()), policy.tag));
      this.actions.note(rule.boost ? "The boost has ended" : "The rule is removed");
    } catch (error) {
      this.fault = error.message;
      this.asking = null;
      this.#render();
      this.refresh(); // another policy may be in force
    }
    this.title.focus();
  }
}

/** What the rules are together, or that there are none. */
function says({ version, rules }, live) {
  if (live > 0) return `Version ${formatCount(version)}. The first rule that matches decides; what none matches is collected by the agents' own settings.`;
  if (version === 0) return "There is no policy: all is collected by the agents' own settings.";
  const why = rules.length > 0 ? "all its rules have ended" : "it has no rules";
  return `Version ${formatCount(version)} of the policy is in force, and ${why}: all is collected by the agents' own settings.`;
}
