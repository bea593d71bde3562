// SPDX-License-Identifier: Apache-2.0

// The page as a whole. State goes one way: a part calls navigate() or
// replace(), which changes the state and the URL; then either the data is
// asked for again or the parts are shown anew. The parts keep no state that
// matters.

import { getExemplars, getFlameGraph, getLabels, getLabelValues, getPolicy, getSums, postBoost, putPolicy } from "./api.js";
import { BoostForm } from "./boost.js";
import { Breadcrumb } from "./breadcrumb.js";
import { copyText } from "./clipboard.js";
import { Completion } from "./completion.js";
import { byId, element } from "./dom.js";
import { showExport } from "./export.js";
import { Filter } from "./filter.js";
import { FlameGraph } from "./flamegraph.js";
import { sumFunctions } from "./functions.js";
import { PolicyPanel } from "./policypanel.js";
import { nameOf, objectOf, parseProfile } from "./profile.js";
import { ATTRIBUTION, REQUEST_LABELS, labelsOf, sumRequests } from "./requests.js";
import { RequestsTable } from "./requeststable.js";
import { SearchBox } from "./searchbox.js";
import { withMatcher } from "./selector.js";
import { dataParameters, readState, writeState } from "./state.js";
import { showEmpty, showLegend, showSummary } from "./summary.js";
import { Table } from "./table.js";
import { TimeRange, refreshInterval } from "./timerange.js";
import { parseTraces, traceQuery } from "./traces.js";
import { encodePath, resolvePath } from "./zoompath.js";

/** Parts of the state that other data belongs to. */
const DATA_KEYS = ["query", "last", "from", "to", "by"];
const NO_TRACES = Object.freeze({ traces: [], more: false, ignored: [], error: "", of: "" });
const NOTE_MS = 2500;
/** Between two looks for the first data. */
const WAIT_MS = 2000;

export class App {
  constructor() {
    this.state = readState(location.search);
    /** @type {import("./profile.js").Profile|null} */
    this.profile = null;
    /** @type {string[]} */
    this.labels = [];
    /** Trace ids, of the data that the parameters in of select. */
    this.traces = NO_TRACES;
    this.abort = new AbortController();
    const actions = {
      zoom: (node) => this.navigate({ zoom: encodePath(this.profile, node) }),
      copy: (text) => this.#copy(text),
      filter: (value) => this.#filterTo(value),
      pick: (node) => this.navigate({ pick: nameOf(this.profile, node), object: objectOf(this.profile, node) }),
    };
    this.graph = new FlameGraph(byId("flame"), byId("tooltip"), actions);
    this.crumbs = new Breadcrumb(byId("crumbs"), byId("frame-tools"), actions);
    this.table = new Table(byId("functions"), byId("functions-note"), {
      sort: (sort) => this.replace({ sort }),
      pick: (pick, object) => this.navigate({ pick, object }),
    });
    this.requests = new RequestsTable(byId("certainty"), byId("requests"), byId("requests-note"), {
      handler: (row) => this.#show(labelsOf(row), "graph"),
      service: (name) => this.#show([["process_executable_name", name]], "requests"),
      certainty: (value) => this.#show([[ATTRIBUTION, value]], "graph"),
      copy: actions.copy,
    });
    this.policy = new PolicyPanel(byId("policy"), byId("policy-toggle"), {
      get: getPolicy,
      put: putPolicy,
      filter: (selector) => this.navigate({ query: selector === "{}" ? "" : selector, zoom: "" }),
      note: (text) => this.#note(text),
    });
    this.boost = new BoostForm(byId("boost"), byId("boost").querySelector("form"), {
      query: () => this.state.query,
      post: postBoost,
      done: (answer) => this.#boosted(answer),
    });
    this.search = new SearchBox(byId("search"), byId("matched"), byId("unpick"), {
      search: (search) => this.replace({ search, pick: "", object: "" }),
      unpick: () => this.navigate({ pick: "", object: "" }),
    });
    this.range = new TimeRange(byId("range"), byId("absolute"), (range) => this.navigate(range));
    this.filter = new Filter(byId("filter"), byId("selector"), byId("chips"), (query) => this.navigate({ query }));
    this.completion = new Completion(byId("selector"), byId("completions"), {
      names: (query, signal) => getLabels(dataParameters({ ...this.state, query }), signal),
      values: (name, query, signal) => getLabelValues(name, dataParameters({ ...this.state, query }), signal),
    }, () => this.filter.apply());
  }

  start() {
    byId("refresh").addEventListener("click", () => this.load());
    byId("auto").addEventListener("click", () => this.replace({ auto: this.state.auto ? "" : "1" }));
    byId("by").addEventListener("change", (event) => this.navigate({ by: event.target.value, zoom: "" }));
    byId("reset").addEventListener("click", () => this.navigate({ zoom: "" }));
    byId("copy-command").addEventListener("click", () => this.#copy(byId("pprof-command").value));
    byId("policy-toggle").addEventListener("click", () => this.navigate({ policy: this.state.policy === "" ? "1" : "" }));
    for (const choice of document.querySelectorAll("#views button")) {
      choice.addEventListener("click", () => this.navigate({ view: choice.value }));
    }
    addEventListener("popstate", () => this.#change(readState(location.search)));
    addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("visibilitychange", () => this.#schedule());
    this.showControls();
    this.load();
  }

  /** Changes the state as a step that the browser's back button undoes. */
  navigate(changes) {
    const state = { ...this.state, ...changes };
    const url = location.pathname + writeState(state);
    if (url !== location.pathname + location.search) history.pushState(null, "", url);
    this.#change(state);
  }

  /** Changes the state without a step of its own. */
  replace(changes) {
    const state = { ...this.state, ...changes };
    history.replaceState(null, "", location.pathname + writeState(state));
    this.#change(state);
  }

  #change(state) {
    const before = this.state;
    this.state = state;
    this.showControls();
    const other = (before.view === "requests") !== (state.view === "requests");
    if (other || DATA_KEYS.some((key) => before[key] !== state[key])) this.load();
    else this.showData();
  }

  /** Asks for the data of the state. A newer call ends an older one. */
  async load() {
    this.abort.abort();
    const { signal } = (this.abort = new AbortController());
    clearTimeout(this.timer);
    document.body.setAttribute("aria-busy", "true");
    const parameters = dataParameters(this.state);
    this.#loadLabels(parameters, signal);
    this.policy.refresh();
    const traces = this.state.view === "requests" ? this.#loadTraces(signal) : null;
    try {
      const { by, view } = this.state;
      const sums = view === "requests";
      this.profile = parseProfile(await (sums ? getSums(parameters, REQUEST_LABELS, signal) : getFlameGraph(parameters, by, signal)));
      if (signal.aborted) return;
      this.loadedBy = by;
      this.loadedRequests = sums;
      if (this.traces.of !== String(parameters)) this.traces = NO_TRACES;
      this.#showError("");
    } catch (error) {
      if (signal.aborted) return;
      this.#showError(error.message);
    }
    document.body.setAttribute("aria-busy", "false");
    this.showControls();
    this.showData();
    this.#schedule();
    if (traces === null) return;
    // They come behind the rows, which need not wait for them.
    const answer = await traces;
    if (signal.aborted) return;
    const same = [this.traces, answer].every(({ traces: { length }, error }) => length === 0 && error === "");
    this.traces = answer;
    if (!same) this.showData();
  }

  /** The trace ids of the data; what went wrong is told beside the rows. */
  async #loadTraces(signal) {
    const of = String(dataParameters(this.state));
    const { query, ignored } = traceQuery(this.state.query);
    try {
      return { ...parseTraces(await getExemplars(dataParameters({ ...this.state, query }), signal)), ignored, error: "", of };
    } catch (error) {
      return { ...NO_TRACES, error: error.message, of };
    }
  }

  /** Offers the labels of the data to group by. */
  async #loadLabels(parameters, signal) {
    /** @type {string[]} */
    let labels = [];
    try {
      labels = await getLabels(parameters, signal);
    } catch {
      // The graph's own request tells what is wrong; the choice shrinks.
    }
    if (signal.aborted) return;
    this.labels = labels;
    this.#showGroups();
  }

  #showGroups() {
    const { by } = this.state;
    const select = byId("by");
    const names = [...new Set(["", by, ...this.labels])].sort();
    // Replacing the options would close the list if it is open.
    if (names.join() !== Array.from(select.options, (option) => option.value).join()) {
      select.replaceChildren(...names.map((name) => element("option", { value: name }, name === "" ? "nothing" : name)));
    }
    select.value = by;
    select.disabled = this.state.view === "requests";
    // Agents that say nothing of requests leave nothing to show.
    byId("view-requests").hidden = !this.labels.includes(ATTRIBUTION) && this.state.view !== "requests";
  }

  /** Shows the last error; the graph of older data stays, marked as such. */
  #showError(text) {
    byId("error").hidden = text === "";
    byId("error-text").textContent = text;
    document.body.dataset.stale = String(text !== "");
    byId("stale-note").hidden = text === "" || this.profile === null;
  }

  /** Shows the state in the controls. */
  showControls() {
    const { state } = this;
    this.filter.show(state.query);
    this.range.show(state, this.profile);
    this.#showGroups();
    this.search.show(state);
    this.boost.show();
    this.policy.show(state.policy !== "");
    showExport(byId("pprof-link"), byId("pprof-command"), dataParameters(state));
    byId("auto").setAttribute("aria-pressed", String(state.auto !== ""));
    byId("auto").disabled = state.last === "";
    byId("reset").disabled = state.zoom === "";
    for (const choice of document.querySelectorAll("#views button")) {
      choice.setAttribute("aria-pressed", String(choice.value === state.view));
    }
    document.title = state.query === "" ? "fleetprof" : `${state.query} – fleetprof`;
    this.#schedule();
  }

  /** Shows the data in the parts. */
  showData() {
    const { profile, state } = this;
    if (profile === null) return;
    const empty = profile.total <= 0;
    const view = this.#shownView();
    byId("panes").dataset.view = byId("frame-bar").dataset.view = view;
    document.body.dataset.data = empty ? "empty" : "some";
    showSummary(byId("summary"), profile);
    byId("empty").hidden = !empty;
    byId("panes").hidden = byId("frame-bar").hidden = empty;
    byId("legend").hidden = empty || this.loadedRequests;
    if (empty) {
      const range = (from, to) => this.navigate({ last: "", from: new Date(from).toISOString(), to: new Date(to).toISOString() });
      showEmpty(byId("empty"), profile, state.query, { range, filter: (query) => this.navigate({ query }) });
      return;
    }
    if (this.loadedRequests) {
      const requests = sumRequests(profile);
      this.requests.show(requests, profile.unit, this.search.matchRequests(requests, state), this.traces);
      return;
    }
    const { node: zoom, found } = resolvePath(profile, state.zoom);
    const grouped = this.loadedBy !== "";
    const { marked, matches } = this.search.match(profile, zoom, state);
    this.crumbs.show({ profile, zoom, found, by: this.loadedBy });
    showLegend(byId("legend"), profile, zoom, (search) => this.replace({ search, pick: "", object: "" }));
    this.graph.show({ profile, zoom, marked, group: grouped ? 1 : -1 });
    if (view !== "graph") {
      const rows = sumFunctions(profile, zoom, grouped ? 2 : 1);
      this.table.show({ rows, matches, whole: profile.totals[zoom], unit: profile.unit, ...state });
    }
  }

  /** The view that the data is for, while that of the state is on its way. */
  #shownView() {
    if (this.loadedRequests) return "requests";
    return this.state.view === "requests" ? "graph" : this.state.view;
  }

  /** Filters by labels too, and shows the result in a view. */
  #show(labels, view) {
    const query = labels.reduce((selector, [name, value]) => withMatcher(selector, name, value), this.state.query);
    this.navigate({ query, view, zoom: "" });
  }

  /**
   * The next refresh by itself, unless nobody looks: on demand, and while there
   * is no data yet, as right after the start.
   */
  #schedule() {
    clearTimeout(this.timer);
    const waiting = this.profile !== null && this.profile.total <= 0;
    if ((this.state.auto === "" && !waiting) || this.state.last === "" || document.hidden) return;
    if (document.body.getAttribute("aria-busy") === "true") return;
    this.timer = setTimeout(() => this.load(), waiting ? WAIT_MS : refreshInterval(this.state.last));
  }

  #filterTo(value) {
    const { by, query } = this.state;
    const asked = value === `(no ${by})` ? "" : value;
    this.navigate({ query: withMatcher(query, by, asked), zoom: "" });
  }

  /** Shows a boost at once, in the policy that it is now part of. */
  #boosted(answer) {
    this.policy.changed(answer);
    this.navigate({ policy: "1" });
    this.policy.title.focus();
    this.#note("Boosted: agents obey within a second or two");
  }

  async #copy(text) {
    this.#note((await copyText(text)) ? "Copied" : "The browser does not allow copying");
  }

  #note(text) {
    byId("note").textContent = text;
    byId("note").hidden = false;
    clearTimeout(this.noteTimer);
    this.noteTimer = setTimeout(() => (byId("note").hidden = true), NOTE_MS);
  }

  #close(menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }

  #key(event) {
    const typing = event.target.closest?.("input, select, textarea") !== null;
    if (event.key === "Escape") {
      const menu = document.querySelector("details.menu[open]");
      if (menu) this.#close(menu);
      else if (this.state.zoom !== "") this.navigate({ zoom: "" });
      else if (this.state.pick !== "") this.navigate({ pick: "", object: "" });
    } else if (event.key === "/" && !typing) {
      byId("search").focus();
      event.preventDefault();
    }
  }
}
