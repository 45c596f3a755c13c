"use strict";
// What the page shows, and how its numbers and elements are written. Text from records is only ever set as text.

const DATA = JSON.parse(document.getElementById("data").textContent, (_, value) => bare(value));
const DASH = "–";

/** An object that has what was read and nothing else: a network may be called "constructor". */
function bare(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.assign(Object.create(null), value);
}

/** Makes an element. Children that are not elements become text; attributes that are null are left out. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Makes an element of a drawing. */
function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A link, where the address is one that leads to a page; otherwise nothing. */
function link(address, text) {
  if (!/^https?:\/\//i.test(address || "")) return null;
  return element("a", { href: address, rel: "noopener noreferrer" }, text);
}

function percent(fraction) {
  return fraction === null || fraction === undefined ? DASH : (100 * fraction).toFixed(1);
}

/** Writes a score in the unit of its row or table: in percent, unless another measure was asked. */
function written(value, of) {
  if (of.unit === undefined || of.unit === "%" || value === null || value === undefined) return percent(value);
  return digits(value, 3);
}

function bounds(interval, of) {
  return interval ? `${written(interval[0], of)}–${written(interval[1], of)}` : DASH;
}

/** What the scores of a table are, with their unit. */
function scoreName(table) {
  if (!table.measure) return "accuracy";
  return `${table.measure}: ${table.main}`;
}

function unitOf(table) {
  return table.unit ?? "%";
}

/** Writes a number with about as many digits as matter. */
function digits(value, count) {
  const shown = Number(value.toPrecision(count));
  return shown >= 1e15 ? String(shown) : shown.toLocaleString("en", { maximumFractionDigits: 12 });
}

/** Seconds to condense a set and to train the networks that it used; null where they are not known. */
function allSeconds(entry) {
  return entry.condense_seconds === null ? null : entry.condense_seconds + entry.networks_seconds;
}

function seconds(value) {
  if (value === null) return DASH;
  return value < 10 ? digits(value, 2) : Math.round(value).toLocaleString("en");
}

function bytes(value) {
  if (value === null) return DASH;
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  let amount = value;
  while (amount >= 1000 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${amount < 1000 ? digits(amount, 3) : Math.round(amount)} ${units[unit]}`;
}

function rank(range) {
  if (!range) return DASH;
  return range[0] === range[1] ? String(range[0]) : `${range[0]}–${range[1]}`;
}

/** The method, with its version unless that is the first. */
function methodName(entry) {
  return entry.method_version === "1" ? entry.method : `${entry.method}@${entry.method_version}`;
}

/** Says which row it is, beside others of its table. */
function entryName(entry) {
  const options = entry.options ? ` (${entry.options})` : "";
  const matched = entry.matching_network ? ` matched on ${entry.matching_network}` : "";
  return methodName(entry) + options + matched;
}

function ipcName(ipc) {
  return ipc === null ? "all images" : `${ipc} image${ipc === 1 ? "" : "s"} per class`;
}

function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

function distinct(values) {
  return [...new Set(values)];
}
