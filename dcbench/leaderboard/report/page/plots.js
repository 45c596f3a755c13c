// Accuracy against what a set cost: seconds to condense it, bytes to keep it.

const LABEL_ALL = 16; // points; of more, only the best of each method and size are labelled
const LABEL_OPTIONS = 24; // characters of the options; pointing at the mark tells all
let plotCount = 0;

/** The plots of a board, and the legend of all. */
function plots(tables, name, width) {
  const accuracy = quantity(tables[0]);
  const twoColumns = width >= 760;
  const each = twoColumns ? Math.floor((width - 24) / 2) : width;
  const points = tables.flatMap((table) => pointsOf(table));
  labelPoints(points);
  const lines = referenceLines(tables);
  const methods = METHODS.filter((method) => points.some((point) => point.entry.method === method));
  // Sets of one size all would stand above each other.
  const severalSizes = distinct(points.map(({ entry }) => entry.storage_bytes)).length > 1;
  const left =
    tables.reduce((sum, table) => sum + table.entries.filter((entry) => !entry.reference).length, 0) -
    points.length;
  const common = { points, lines, accuracy, name, width: each };
  const drawings = [
    plot({
      ...common,
      title: "seconds to condense a set",
      value: allSeconds,
      written: (x) => `${seconds(x)} s`,
    }),
  ];
  if (severalSizes)
    drawings.push(
      plot({ ...common, title: "size of a set", value: (entry) => entry.storage_bytes, written: bytes }),
    );
  if (!drawings.some((each) => each instanceof SVGElement)) return drawings;
  return [
    element("div", { class: "plots" }, ...drawings),
    element("ul", { class: "legend", "aria-label": "Methods" }, ...methods.map(legendItem)),
    element("p", { class: "small" }, plotNote(left)),
  ];
}

function plotNote(left) {
  const said =
    "Whiskers are 95 % intervals. Points that would hide each other are drawn side by side, " +
    "and not all of many are labelled: point at a mark to read it.";
  return left ? `${said} ${counted(left, "row")} without this accuracy: not drawn.` : said;
}

/** What stands on the axis of scores: on one network, or the mean over several. */
function quantity(table) {
  const unit = unitOf(table) ? `, ${unitOf(table)}` : "";
  return (state.network ? `${scoreName(table)} on ${state.network}` : `mean ${scoreName(table)}`) + unit;
}

/** What is drawn of a table: its rows but the references, with an accuracy and its interval. */
function pointsOf(table, withReferences = false) {
  const made = [];
  for (const entry of table.entries.filter((each) => withReferences || !each.reference)) {
    const score = state.network ? entry.scores[state.network] : entry;
    if (!score || score.mean === null) continue;
    made.push({ entry, mean: score.mean, interval: score.interval });
  }
  return made;
}

/** Labels points with their method, and with what else tells them apart; of many, only the best of each kind. */
function labelPoints(points) {
  const several = (some, value) => distinct(some.map(({ entry }) => value(entry))).length > 1;
  const severalSizes = several(points, (entry) => entry.ipc);
  for (const point of points) {
    const { entry } = point;
    const alike = points.filter((other) => other.entry.method === entry.method);
    const sign = entry.lower_is_better ? -1 : 1;
    const best = alike.every((other) => other.entry.ipc !== entry.ipc || sign * (point.mean - other.mean) >= 0);
    const matched = points.length <= LABEL_ALL && several(alike, (each) => each.matching_network);
    const said = [methodName(entry)];
    if (matched && entry.matching_network) said.push(entry.matching_network);
    if (severalSizes) said.push(`ipc ${entry.ipc ?? "all"}`);
    if (entry.options && several(alike, (each) => each.options)) said.push(shortened(entry.options));
    point.label = best || points.length <= LABEL_ALL ? said.join(" · ") : "";
  }
}

function shortened(text) {
  return text.length > LABEL_OPTIONS ? `${text.slice(0, LABEL_OPTIONS)}…` : text;
}

/** Floor and ceiling: each accuracy once. */
function referenceLines(tables) {
  const lines = new Map();
  for (const table of tables) {
    for (const entry of table.entries.filter((each) => each.reference)) {
      const mean = state.network ? entry.scores[state.network]?.mean : entry.mean;
      if (mean === null || mean === undefined) continue;
      const size = entry.ipc !== null && tables.length > 1 ? ` · ipc ${entry.ipc}` : "";
      lines.set(`${entry.reference} ${mean}`, {
        mean,
        kind: entry.reference,
        label: `${methodName(entry)}${size} ${written(mean, entry)}`,
      });
    }
  }
  return [...lines.values()];
}

function plot(figure) {
  const shown = figure.points.filter((point) => figure.value(point.entry) > 0);
  if (!shown.length)
    return element("p", { class: "small" }, `No row has ${figure.accuracy} and ${figure.title}.`);
  const drawing = frame(figure, shown);
  const values = shown.map((point) => figure.value(point.entry));
  const [left, right] = [MARGIN.left + 16, figure.width - MARGIN.right - 16];
  const x = figure.linear ? linearScale(values, left, right, { unit: "" }) : logScale(values, left, right);
  const y = linearScale(heights(shown, figure.lines), HEIGHT - MARGIN.bottom, MARGIN.top, shown[0].entry);
  drawAxes(drawing.svg, figure, x, y);
  const placed = dodged(
    shown.map((point) => ({ ...point, x: x.place(figure.value(point.entry)), y: y.place(point.mean) })),
    y,
  );
  const taken = placed.flatMap((point) => covered(point, y));
  for (const line of figure.lines) drawLine(drawing.svg, line, y, figure.width, taken);
  if (figure.joined) drawCurves(drawing.svg, placed);
  for (const point of placed) drawPoint(drawing.svg, point, y, figure);
  for (const point of placed.map((each) => ({ ...each, ...extent(each, y) })))
    drawLabel(drawing.svg, point, taken, figure.width);
  return drawing.svg;
}

/** The drawing with its title and description, and nothing drawn yet. */
function frame(figure, shown) {
  plotCount += 1;
  const [title, description] = [`plot-${plotCount}-title`, `plot-${plotCount}-description`];
  const said = shown.map((point) => describe(point, figure));
  const svg = drawn(
    "svg",
    {
      class: "plot",
      role: "img",
      "aria-labelledby": `${title} ${description}`,
      width: figure.width,
      height: HEIGHT,
      viewBox: `0 0 ${figure.width} ${HEIGHT}`,
    },
    drawn("title", { id: title }, `${figure.name}: ${figure.accuracy} against ${figure.title}`),
    drawn("desc", { id: description }, said.join("; ")),
  );
  return { svg };
}

function describe(point, figure) {
  const { entry } = point;
  const interval = point.interval ? ` (${bounds(point.interval, entry)})` : "";
  const unit = unitOf(entry) ? ` ${unitOf(entry)}` : "";
  const cost = figure.written(figure.value(point.entry));
  return `${entryName(entry)}, ${ipcName(entry.ipc)}: ${written(point.mean, entry)}${interval}${unit} at ${cost}`;
}
