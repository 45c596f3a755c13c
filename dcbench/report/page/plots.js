// Accuracy against what a set cost: seconds to condense it, bytes to keep it.

const MARKERS = ["circle", "square", "triangle", "diamond", "cross", "plus", "wedge", "star"];
const METHODS = distinct(DATA.tables.flatMap((table) => table.entries.map((entry) => entry.method))).sort();
const HEIGHT = 340;
const MARGIN = { top: 14, right: 16, bottom: 46, left: 52 };
const CHARACTER = 6.3; // pixels that a letter of a label is wide, about
const SIDE_STEPS = [0, 12, -12, 24, -24, 36, -36]; // pixels that a point may be moved aside
const LABEL_ALL = 16; // points; of more, only the best of each method and size are labelled
let plotCount = 0;

/** The two plots of a board, and the legend of both. */
function plots(tables, name, width) {
  const accuracy = state.network ? `accuracy on ${state.network}` : "mean accuracy";
  const twoColumns = width >= 760;
  const each = twoColumns ? Math.floor((width - 24) / 2) : width;
  const points = tables.flatMap(pointsOf);
  labelPoints(points);
  const lines = referenceLines(tables);
  const methods = METHODS.filter((method) => points.some((point) => point.entry.method === method));
  const left = tables.reduce((sum, table) => sum + table.entries.filter((entry) => !entry.reference).length, 0) - points.length;
  return [
    element(
      "div",
      { class: "plots" },
      plot({ points, lines, accuracy, name, width: each, title: "seconds to condense a set", value: (entry) => entry.condense_seconds, written: (x) => `${seconds(x)} s` }),
      plot({ points, lines, accuracy, name, width: each, title: "size of a set", value: (entry) => entry.storage_bytes, written: bytes }),
    ),
    element("ul", { class: "legend", "aria-label": "Methods" }, ...methods.map(legendItem)),
    element("p", { class: "small" }, plotNote(left)),
  ];
}

function plotNote(left) {
  const said = "Whiskers are 95 % intervals. Points that would hide each other are drawn side by side, and not all of many are labelled: point at a mark to read it.";
  return left ? `${said} ${counted(left, "row")} without this accuracy: not drawn.` : said;
}

/** What is drawn of a table: its rows but the references, with an accuracy and its interval. */
function pointsOf(table) {
  const made = [];
  for (const entry of table.entries.filter((each) => !each.reference)) {
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
    const best = alike.every((other) => other.entry.ipc !== entry.ipc || other.mean <= point.mean);
    const matched = points.length <= LABEL_ALL && several(alike, (each) => each.matching_network);
    const said = [methodName(entry)];
    if (matched && entry.matching_network) said.push(entry.matching_network);
    if (severalSizes) said.push(`ipc ${entry.ipc ?? "all"}`);
    point.label = best || points.length <= LABEL_ALL ? said.join(" · ") : "";
  }
}

/** Floor and ceiling: each accuracy once. */
function referenceLines(tables) {
  const lines = new Map();
  for (const table of tables) {
    for (const entry of table.entries.filter((each) => each.reference)) {
      const mean = state.network ? entry.scores[state.network]?.mean : entry.mean;
      if (mean === null || mean === undefined) continue;
      const size = entry.ipc !== null && tables.length > 1 ? ` · ipc ${entry.ipc}` : "";
      lines.set(`${entry.reference} ${mean}`, { mean, kind: entry.reference, label: `${methodName(entry)}${size} ${percent(mean)}` });
    }
  }
  return [...lines.values()];
}

function plot(figure) {
  const shown = figure.points.filter((point) => figure.value(point.entry) > 0);
  const drawing = frame(figure, shown);
  if (!shown.length) return drawing.svg;
  const x = logScale(shown.map((point) => figure.value(point.entry)), MARGIN.left + 16, figure.width - MARGIN.right - 16);
  const y = linearScale(heights(shown, figure.lines), HEIGHT - MARGIN.bottom, MARGIN.top);
  drawAxes(drawing.svg, figure, x, y);
  const placed = dodged(shown.map((point) => ({ ...point, x: x.place(figure.value(point.entry)), y: y.place(point.mean) })), y);
  const taken = placed.flatMap((point) => covered(point, y));
  for (const line of figure.lines) drawLine(drawing.svg, line, y, figure.width, taken);
  for (const point of placed) drawPoint(drawing.svg, point, y, figure);
  for (const point of placed.map((each) => ({ ...each, ...extent(each, y) }))) drawLabel(drawing.svg, point, taken, figure.width);
  return drawing.svg;
}

/** The drawing with its title and description, and nothing drawn yet. */
function frame(figure, shown) {
  plotCount += 1;
  const [title, description] = [`plot-${plotCount}-title`, `plot-${plotCount}-description`];
  const said = shown.map((point) => describe(point, figure));
  const svg = drawn(
    "svg",
    { class: "plot", role: "img", "aria-labelledby": `${title} ${description}`, width: figure.width, height: HEIGHT, viewBox: `0 0 ${figure.width} ${HEIGHT}` },
    drawn("title", { id: title }, `${figure.name}: ${figure.accuracy} against ${figure.title}`),
    drawn("desc", { id: description }, said.length ? said.join("; ") : "no row has both"),
  );
  if (!shown.length) svg.append(drawn("text", { class: "none", x: figure.width / 2, y: HEIGHT / 2 }, `no row has ${figure.accuracy} and ${figure.title}`));
  return { svg };
}

function describe(point, figure) {
  const interval = point.interval ? ` (${bounds(point.interval)})` : "";
  return `${entryName(point.entry)}, ${ipcName(point.entry.ipc)}: ${percent(point.mean)}${interval} % at ${figure.written(figure.value(point.entry))}`;
}

/** A logarithmic scale with room at both ends, and its ticks: powers of ten, and more between them the fewer they are. */
function logScale(values, start, end) {
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  const room = Math.max(0.06 * (high - low), 0.2);
  const [from, to] = [low - room, high + room];
  const place = (value) => start + ((Math.log10(value) - from) / (to - from)) * (end - start);
  const steps = to - from > 4 ? [1] : to - from > 2 ? [1, 3] : to - from > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
  const every = Math.max(1, Math.ceil((to - from) / 7));
  const ticks = [];
  for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
    if (power % every === 0) ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return { place, ticks: ticks.filter((tick) => Math.log10(tick) >= from && Math.log10(tick) <= to) };
}

function linearScale(values, start, end) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.05 * (high - low), 0.01);
  const [from, to] = [Math.max(0, low - room), Math.min(1, high + room)];
  const place = (value) => start + ((value - from) / (to - from)) * (end - start);
  const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((each) => (to - from) / each <= 7) ?? 0.25;
  const ticks = [];
  for (let index = Math.ceil(from / step); index * step <= to; index += 1) ticks.push(index * step);
  return { place, ticks };
}

function heights(points, lines) {
  return [...points.flatMap((point) => [point.mean, ...(point.interval || [])]), ...lines.map((line) => line.mean)];
}

function drawAxes(svg, figure, x, y) {
  const [right, bottom] = [figure.width - MARGIN.right, HEIGHT - MARGIN.bottom];
  for (const tick of y.ticks) {
    svg.append(
      drawn("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
      drawn("text", { class: "tick y", x: MARGIN.left - 8, y: y.place(tick) }, String(Number((100 * tick).toFixed(1)))),
    );
  }
  drawTicks(svg, figure, x, bottom);
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(
    drawn("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    drawn("text", { class: "name x", x: (MARGIN.left + right) / 2, y: HEIGHT - 6 }, `${figure.title}, logarithmic`),
    drawn("text", { class: "name x", transform: `translate(14 ${middle}) rotate(-90)` }, `${figure.accuracy}, %`),
  );
}

/** The ticks beneath a plot; where they are narrow, powers of ten have their numbers before others. */
function drawTicks(svg, figure, x, bottom) {
  const isPower = (tick) => Number.isInteger(Number(Math.log10(tick).toFixed(9)));
  const taken = [];
  for (const tick of [...x.ticks].sort((a, b) => isPower(b) - isPower(a))) {
    const place = x.place(tick);
    svg.append(drawn("line", { class: "axis", x1: place, x2: place, y1: bottom, y2: bottom + 5 }));
    const long = figure.written(tick).length * CHARACTER + 10;
    const wanted = box(place - long / 2, bottom, long, 20);
    if (!taken.every((other) => areApart(wanted, other))) continue;
    taken.push(wanted);
    svg.append(drawn("text", { class: "tick x", x: place, y: bottom + 18 }, figure.written(tick)));
  }
}

/** Moves points aside that would hide another or its whiskers, no further than need be. */
function dodged(points, y) {
  const taken = [];
  for (const point of [...points].sort((a, b) => b.mean - a.mean)) {
    const moves = SIDE_STEPS.map((step) => covered({ ...point, x: point.x + step }, y));
    const free = moves.findIndex((boxes) => boxes.every((wanted) => taken.every((other) => areApart(wanted, other))));
    const chosen = free === -1 ? 0 : free;
    point.x += SIDE_STEPS[chosen];
    taken.push(...moves[chosen]);
  }
  return points;
}

/** A reference's line, labelled at the end that has room. */
function drawLine(svg, line, y, width, taken) {
  const place = y.place(line.mean);
  svg.append(drawn("line", { class: `reference ${line.kind}`, x1: MARGIN.left, x2: width - MARGIN.right, y1: place, y2: place }));
  const long = line.label.length * CHARACTER;
  const spots = [
    [width - MARGIN.right - long, place - 14],
    [MARGIN.left + 4, place - 14],
    [width - MARGIN.right - long, place + 3],
    [MARGIN.left + 4, place + 3],
  ];
  const spot = spots.find(([left, top]) => isFree(box(left, top, long, 12), taken, width));
  if (!spot) return;
  taken.push(box(spot[0], spot[1], long, 12));
  svg.append(drawn("text", { class: "label", x: spot[0], y: spot[1] + 10 }, line.label));
}

/** Where a point and its whiskers are. */
function covered(point, y) {
  const { top, bottom } = extent(point, y);
  return [box(point.x - 5, point.y - 5, 10, 10), box(point.x - 4, top, 8, bottom - top)];
}

/** From where to where a point and its whiskers reach. */
function extent(point, y) {
  const [low, high] = (point.interval ?? [point.mean, point.mean]).map(y.place);
  return { top: Math.min(high, point.y - 6), bottom: Math.max(low, point.y + 6) };
}

function drawPoint(svg, point, y, figure) {
  const group = drawn("g", { class: "point", "data-method": point.entry.method }, drawn("title", {}, describe(point, figure)));
  paintAs(group, point.entry.method);
  if (point.interval) {
    const [low, high] = point.interval.map(y.place);
    const whisker = `M${point.x} ${low}V${high}M${point.x - 4} ${low}h8M${point.x - 4} ${high}h8`;
    group.append(drawn("path", { class: "whiskers", d: whisker }));
  }
  group.append(marker(point.entry.method, point.x, point.y));
  svg.append(group);
}

/** A label beside its point, where it covers nothing else; none where there is no room. */
function drawLabel(svg, point, taken, width) {
  if (!point.label) return;
  const long = point.label.length * CHARACTER;
  const { x, y } = point;
  const spots = [
    [x + 9, y - 6],
    [x - 9 - long, y - 6],
    [x + 7, y - 17],
    [x + 7, y + 5],
    [x - 7 - long, y - 17],
    [x - 7 - long, y + 5],
    [x - long / 2, point.top - 14],
    [x - long / 2, point.bottom + 3],
  ];
  const spot = spots.find(([left, top]) => isFree(box(left, top, long, 12), taken, width));
  if (!spot) return;
  taken.push(box(spot[0], spot[1], long, 12));
  svg.append(drawn("text", { class: "label", x: spot[0], y: spot[1] + 10 }, point.label));
}

function box(left, top, width, height) {
  return { left, top, right: left + width, bottom: top + height };
}

function isFree(wanted, taken, width) {
  const inside = wanted.left >= MARGIN.left && wanted.right <= width - 2 && wanted.top >= 2 && wanted.bottom <= HEIGHT - MARGIN.bottom;
  return inside && taken.every((other) => areApart(wanted, other));
}

function areApart(one, other) {
  return one.right < other.left || one.left > other.right || one.bottom < other.top || one.top > other.bottom;
}

/** A method's shape, so that it need not be told by its colour. */
function marker(method, x, y) {
  const paths = {
    circle: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    square: "M-4.5 -4.5h9v9h-9z",
    triangle: "M0 -5.5L5.5 4.5H-5.5z",
    diamond: "M0 -6L6 0L0 6L-6 0z",
    cross: "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
    plus: "M-1.7 -5.5h3.4v3.8h3.8v3.4h-3.8v3.8h-3.4v-3.8h-3.8v-3.4h3.8z",
    wedge: "M0 5.5L5.5 -4.5H-5.5z",
    star: "M0 -6.5L1.7 -2L6.3 -2L2.6 1L4 5.6L0 2.9L-4 5.6L-2.6 1L-6.3 -2L-1.7 -2z",
  };
  const number = METHODS.indexOf(method);
  const shape = MARKERS[(number + Math.floor(number / MARKERS.length)) % MARKERS.length];
  return drawn("path", { class: "mark", d: paths[shape], transform: `translate(${x} ${y})` });
}

/** Gives an element a method's colour, the same all over the page. */
function paintAs(node, method) {
  node.style.setProperty("--series", `var(--series-${METHODS.indexOf(method) % MARKERS.length})`);
}

function legendItem(method) {
  const icon = drawn("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(method, 0, 0));
  const item = element("li", {}, icon, method);
  paintAs(item, method);
  return item;
}
