// SPDX-License-Identifier: Apache-2.0

// The page's entry: makes the parts and hands each what it needs.

import { App } from "./app.js";

new App().start();
