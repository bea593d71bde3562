// SPDX-License-Identifier: Apache-2.0

// Taking the selected data elsewhere, as pprof.

import { pprofURL } from "./api.js";

/**
 * @param {HTMLAnchorElement} link
 * @param {HTMLInputElement} command
 * @param {URLSearchParams} parameters
 */
export function showExport(link, command, parameters) {
  const url = pprofURL(parameters);
  link.href = url;
  // URLSearchParams writes a quote as %27, so the shell's quotes hold.
  command.value = `go tool pprof '${url}'`;
}
