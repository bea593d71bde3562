// SPDX-License-Identifier: Apache-2.0

// Making elements. Text from profiles enters the page here, as text nodes and
// as properties, and never as markup.

/**
 * Returns the element with the given id, which index.html must have.
 * @param {string} id
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`find element #${id}: not in index.html`);
  return found;
}

/**
 * Makes an element. Names with a dash, and role, become attributes; all others
 * are properties.
 * @param {string} tag
 * @param {Record<string, unknown>} properties
 * @param {...(Node|string)} children
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key.includes("-")) made.setAttribute(key, String(value));
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Makes a push button. */
export function button(text, onclick, properties = {}) {
  return element("button", { type: "button", onclick, ...properties }, text);
}

/**
 * Cuts text to at most limit UTF-16 units, never inside a surrogate pair.
 * Names of functions may have megabytes; labels and tooltips must not.
 */
export function clip(text, limit) {
  if (text.length <= limit) return text;
  return text.slice(0, limit - 1).replace(/[\uD800-\uDBFF]$/, "") + "…";
}
