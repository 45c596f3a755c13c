// The columns of a table: the heading, what a cell shows, and the value by which rows are sorted.
// A column whose rows begin with the greatest, when it is clicked first, is "descending".

/** The columns of a table, each with a key, a title, a first order, a value, and a cell. */
function columnsOf(table, span) {
  const networks = networksOf(table).filter((network) => !state.network || network === state.network);
  return [
    number(
      "rank",
      "rank",
      "ascending",
      (entry) => entry.rank && entry.rank[0] + entry.rank[1] / 1e6,
      (entry) => rank(entry.rank),
    ),
    text("method", "method", entryName, (entry) => methodCell(entry, table)),
    text("matched", "matched on", (entry) => entry.matching_network),
    number(
      "mean",
      "mean",
      table.lower_is_better ? "ascending" : "descending",
      (entry) => entry.mean,
      (entry) => meanCell(entry, span),
    ),
    ...foundColumns(table),
    ...(networksOf(table).length ? networks.map(networkColumn) : [spanColumn()]),
    number(
      "unseen",
      "unseen",
      "descending",
      (entry) => entry.unseen_mean,
      (entry) => written(entry.unseen_mean, entry),
    ),
    number(
      "drop",
      "drop",
      "ascending",
      (entry) => entry.drop,
      (entry) => signed(entry.drop, entry),
    ),
    number(
      "gap",
      "gap",
      "descending",
      (entry) => entry.gap,
      (entry) => share(entry.gap, entry.gap_half_width),
    ),
    ...overRandomColumns(table),
    ...["lrs", "ars"].filter((name) => table.entries.some((entry) => entry[name] !== undefined)).map(scoreColumn),
    ...["spearman", "kendall"].filter(() => table.entries.some((entry) => entry.agreement)).map(agreementColumn),
    number("n", "n", "descending", trials, (entry) => sample(entry)),
    text(
      "verified",
      "verified",
      (entry) => entry.verified,
      (entry) => (entry.verified ? `✓ ${entry.verified}` : DASH),
    ),
    number(
      "seconds",
      "condense seconds",
      "ascending",
      allSeconds,
      (entry) =>
        seconds(entry.condense_seconds) + (entry.networks_seconds ? ` + ${seconds(entry.networks_seconds)}` : ""),
    ),
    number(
      "memory",
      "peak memory",
      "ascending",
      (entry) => entry.peak_memory_bytes,
      (entry) => bytes(entry.peak_memory_bytes),
    ),
    number(
      "bytes",
      "set size",
      "ascending",
      (entry) => entry.storage_bytes,
      (entry) => bytes(entry.storage_bytes),
    ),
    text("device", "device", (entry) => entry.devices.join("; ") || null),
    text("engine", "engine", (entry) => entry.engines.join("; ") || null),
    text("commit", "commit", (entry) => entry.commits.join("; ") || null),
  ];
}

function number(key, title, first, value, cell) {
  return { key, title, first, value, cell, numeric: true };
}

function text(key, title, value, cell = (entry) => value(entry) ?? DASH) {
  return { key, title, first: "ascending", value, cell, numeric: false };
}

function networkColumn(network) {
  const value = (entry) => entry.scores[network]?.mean ?? null;
  return number(`on ${network}`, network, "descending", value, (entry) => scoreCell(entry, network));
}

/** How many networks a row has, and the least and the greatest of its scores. */
function spanColumn() {
  const means = (entry) => Object.values(entry.scores).map((score) => score.mean);
  const range = (entry) => [Math.min(...means(entry)), Math.max(...means(entry))];
  const cell = (entry) =>
    `${means(entry).length}: ${range(entry).map((value) => written(value, entry)).join("–")}`;
  return number("networks", "networks", "descending", (entry) => means(entry).length, cell);
}

/** How well a row ranks the networks of an architecture search, with the 95 % interval. */
function agreementColumn(name) {
  const value = (entry) => entry.agreement?.[name].value ?? null;
  const cell = (entry) => {
    if (value(entry) === null) return DASH;
    const interval = entry.agreement[name].interval?.map((each) => each.toFixed(2));
    return value(entry).toFixed(2) + (interval ? ` [${interval.join(", ")}]` : "");
  };
  return number(name, capital(name), "descending", value, cell);
}

/** A text whose lines may end after a sign, so that they end nowhere else. */
function breakable(text) {
  return text.split(/(?<=[_=,:])/).flatMap((each) => [each, element("wbr")]);
}

/** The method, what is not its default, what it lacks, and where it is from. */
function methodCell(entry, table) {
  const name = element(
    "span",
    { class: "name" },
    ...breakable(methodName(entry)),
    entry.provisional.length ? " †" : "",
  );
  const here = { href: rowAddress(table, entry), class: "permanent", "aria-label": `link to ${entryName(entry)}` };
  const lines = [name, element("a", here, "#")];
  if (entry.options) lines.push(element("span", { class: "small" }, ...breakable(entry.options)));
  if (entry.made_elsewhere) lines.push(element("span", { class: "small" }, "made elsewhere"));
  if (entry.below) lines.push(element("span", { class: "small lacks" }, entry.below));
  if (entry.diverged) lines.push(element("span", { class: "small lacks" }, entry.diverged));
  if (entry.reference) lines.push(element("span", { class: "small" }, `reference: ${entry.reference}`));
  if (entry.provisional.length) {
    lines.push(element("span", { class: "small lacks" }, `provisional: ${entry.provisional.join("; ")}`));
  }
  const links = [link(entry.card?.paper_url, "paper"), link(entry.card?.code_url, "authors' code")].filter(Boolean);
  if (links.length) lines.push(element("span", { class: "small links" }, ...links));
  return lines;
}

/** The mean, its interval as a bar on the scale of the table, and in numbers. */
function meanCell(entry, span) {
  if (entry.mean === null) return DASH;
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  const place = (value) => `${(100 * (value - span[0])) / (span[1] - span[0] || 1)}%`;
  if (entry.interval) {
    const [low, high] = entry.interval;
    const whisker = element("span", { class: "whisker" });
    whisker.style.left = place(low);
    whisker.style.right = `calc(100% - ${place(high)})`;
    bar.append(whisker);
  }
  const point = element("span", { class: "point" });
  point.style.left = place(entry.mean);
  bar.append(point);
  const value = element("span", { class: "value" }, written(entry.mean, entry));
  return [value, bar, element("span", { class: "small" }, bounds(entry.interval, entry))];
}

/** The mean on one network, its interval, and the deviations between and within sets. */
function scoreCell(entry, network) {
  const score = entry.scores[network];
  if (!score) return DASH;
  const star = network === entry.matching_network ? "*" : "";
  return [
    element("span", { class: "value" }, written(score.mean, entry), element("span", { class: "star" }, star)),
    element("span", { class: "small" }, bounds(score.interval, entry)),
    element("span", { class: "small" }, `${written(score.between_std, entry)} / ${written(score.within_std, entry)}`),
    ...(score.balanced ? [element("span", { class: "small" }, `balanced ${percent(score.balanced)}`)] : []),
  ];
}

/** The mean that a verification found, by which rows are ranked that have it. */
function foundColumns(table) {
  if (!table.entries.some((entry) => entry.found)) return [];
  const value = (entry) => entry.found?.[0] ?? null;
  const cell = (entry) =>
    entry.found
      ? [written(value(entry), entry), element("span", { class: "small" }, bounds(entry.found.slice(1), entry))]
      : DASH;
  return [number("found", "found anew", "descending", value, cell)];
}

/** Points above random images under the same labels or teacher, where a table is of such. */
function overRandomColumns(table) {
  if (!table.random) return [];
  const over = (entry) => entry.over_random ?? null;
  return [number("over-random", "over random", "descending", over, (entry) => signed(over(entry), entry))];
}

/** One of DD-Ranking's scores. */
function scoreColumn(name) {
  const value = (entry) => entry[name] ?? null;
  return number(name, name.toUpperCase(), "descending", value, (entry) => percent(value(entry)));
}

function signed(difference, of) {
  return written(difference, of).replace("-", "−");
}

/** A share in percent, with half its interval where that is known. */
function share(fraction, halfWidth) {
  if (fraction === null) return DASH;
  const around = halfWidth === null ? "" : ` ± ${(100 * halfWidth).toFixed(0)}`;
  return `${(100 * fraction).toFixed(0).replace("-", "−")}${around} %`;
}

function trials(entry) {
  return Object.values(entry.scores).reduce((sum, score) => sum + score.trials, 0);
}

/** Sets x networks per set, as often as networks differ in it. */
function sample(entry) {
  const said = Object.values(entry.scores).map(({ sets, trials }) =>
    trials % sets ? `${trials} in ${sets}` : `${sets}×${trials / sets}`,
  );
  return distinct(said).sort().join(", ");
}
