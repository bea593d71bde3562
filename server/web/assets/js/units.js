// SPDX-License-Identifier: Apache-2.0

// Numbers and times in the form people read.

/** Lower bound in nanoseconds, nanoseconds per unit, unit. */
const DURATIONS = [
  [864e12, 864e11, "d"],
  [36e12, 36e11, "h"],
  [6e11, 6e10, "min"],
  [999.5e6, 1e9, "s"], // below it is not 1,000 ms when rounded
  [999.5e3, 1e6, "ms"],
  [1e3, 1e3, "µs"],
];

/** Three significant digits, with thousands separators. */
function short(value) {
  const digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function formatCount(value) {
  return value.toLocaleString("en-US");
}

/** A sample value. Durations change unit only where three digits no longer do. */
export function formatValue(value, unit) {
  if (unit !== "nanoseconds") return `${formatCount(value)} ${unit}`;
  for (const [from, size, symbol] of DURATIONS) {
    if (value >= from) return `${short(value / size)} ${symbol}`;
  }
  return value === 0 ? "0 s" : `${formatCount(Math.round(value))} ns`;
}

/** part of whole in percent. What is not zero never reads as zero. */
export function formatShare(part, whole) {
  if (part <= 0 || whole <= 0) return "0%";
  const percent = (100 * part) / whole;
  if (percent < 0.01) return "<0.01%";
  if (percent > 99.99 && percent < 100) return ">99.9%";
  return `${percent.toFixed(percent < 9.995 ? 2 : 1)}%`;
}

/**
 * How many cores a value in nanoseconds kept busy on average over the part of
 * the range that has data, or "" where that cannot be said.
 * @param {{unit: string, total: number, from: number, to: number, oldest: number, newest: number}} profile
 */
export function formatCores(profile) {
  const covered = Math.min(profile.to, profile.newest) - Math.max(profile.from, profile.oldest);
  if (profile.unit !== "nanoseconds" || !(covered > 0)) return "";
  const cores = profile.total / (covered * 1e6);
  if (cores > 0 && cores < 0.005) return "< 0.01 cores";
  return `≈ ${short(cores)} ${short(cores) === "1.00" ? "core" : "cores"}`;
}

const two = (n) => String(n).padStart(2, "0");

/** Local date and time as datetime-local inputs want it: 2026-01-31T09:05:00. */
export function localISO(ms) {
  const t = new Date(ms);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}` +
    `T${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

export function formatInstant(ms) {
  return localISO(ms).replace("T", " ");
}

/** A range of time; the second date is left out where it is the first. */
export function formatRange(from, to) {
  const a = formatInstant(from);
  const b = formatInstant(to);
  return `${a} – ${a.slice(0, 10) === b.slice(0, 10) ? b.slice(11) : b}`;
}

/** A span of wall time: "5 min", "3 h". */
export function formatSpan(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}
