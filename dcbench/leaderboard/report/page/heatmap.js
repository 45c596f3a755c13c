// Matched on x evaluated on: which networks a set was made with, and which can learn from it.

/** The ramps of both themes, from the lowest accuracy to the highest, as red, green and blue. */
const RAMPS = {
  light: [
    [240, 245, 250],
    [143, 188, 222],
    [20, 88, 150],
  ],
  dark: [
    [30, 38, 48],
    [31, 92, 140],
    [140, 205, 250],
  ],
};

/** The heat map of one table: a group of rows for each method, a row for each network that it was matched on. */
function heatMap(table, name) {
  const networks = networksOf(table);
  const values = table.entries.flatMap((entry) => Object.values(entry.scores).map((score) => score.mean));
  const span = [Math.min(...values), Math.max(...values)];
  const groups = new Map();
  for (const entry of table.entries) {
    const key = methodName(entry) + (entry.options ? ` (${entry.options})` : "");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(entry);
  }
  const bodies = [...groups].map(([method, entries]) => heatGroup(method, entries, networks, span));
  const made = element("table", { class: "heat" }, element("caption", {}, name), heatHead(networks), ...bodies);
  return element(
    "div",
    { class: "scroller", role: "region", tabindex: "0", "aria-label": `Heat map: ${name}` },
    made,
    scale(span, table),
  );
}

function heatHead(networks) {
  const columns = networks.map((network) =>
    element("th", { scope: "col", class: network === state.network ? "number picked" : "number" }, network),
  );
  return element(
    "thead",
    {},
    element(
      "tr",
      {},
      element("th", { scope: "col" }, "method"),
      element("th", { scope: "col" }, "matched on"),
      ...columns,
    ),
  );
}

function heatGroup(method, entries, networks, span) {
  const sortedEntries = [...entries].sort((a, b) =>
    COLLATOR.compare(a.matching_network ?? "", b.matching_network ?? ""),
  );
  const rows = sortedEntries.map((entry, index) => {
    const head = index
      ? []
      : [element("th", { scope: "rowgroup", rowspan: entries.length, class: "method" }, method)];
    const matched = element("th", { scope: "row", class: "matched" }, entry.matching_network ?? "none");
    return element("tr", {}, ...head, matched, ...networks.map((network) => heatCell(entry, network, span)));
  });
  return element("tbody", {}, ...rows);
}

function heatCell(entry, network, span) {
  const score = entry.scores[network];
  if (!score) return element("td", { class: "number empty" }, DASH);
  const own = network === entry.matching_network;
  const cell = element("td", { class: own ? "number own" : "number" }, written(score.mean, entry) + (own ? "*" : ""));
  const share = (score.mean - span[0]) / (span[1] - span[0] || 1);
  for (const [theme, ramp] of Object.entries(RAMPS)) {
    const colour = mixed(ramp, share);
    cell.style.setProperty(`--${theme}-ground`, `rgb(${colour.join(" ")})`);
    cell.style.setProperty(`--${theme}-ink`, inkOn(colour));
  }
  return cell;
}

function scale(span, table) {
  return element(
    "p",
    { class: "scale" },
    written(span[0], table),
    element("span", { class: "ramp", "aria-hidden": "true" }),
    written(span[1], table),
    element("span", { class: "own-key" }, "* matched and evaluated on the same network"),
  );
}

/** The colour at a share from 0 to 1 of a ramp of three colours. */
function mixed(ramp, share) {
  const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const index = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[index].map((low, channel) =>
    Math.round(low + (ramp[index + 1][channel] - low) * (place - index)),
  );
}

/** Black or white, whichever stands out more: at least 4.5 to 1, by the luminance of WCAG 2. */
function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}
