// What is drawn into a plot: points with whiskers, lines, and labels where there is room for them.

const MARKERS = ["circle", "square", "triangle", "diamond", "cross", "plus", "wedge", "star"];
const METHODS = distinct([
  ...DATA.tables.flatMap((table) => table.entries.map((entry) => entry.method)),
  ...DATA.continual.flatMap((table) => table.curves.map((curve) => curve.method)),
]).sort();
const SIDE_STEPS = [0, 12, -12, 24, -24, 36, -36]; // pixels that a point may be moved aside

function drawPoint(svg, point, y, figure) {
  const group = drawn(
    "g",
    { class: "point", "data-method": point.entry.method },
    drawn("title", {}, describe(point, figure)),
  );
  paintAs(group, point.entry.method);
  if (point.interval) {
    const [low, high] = point.interval.map(y.place);
    const whisker = `M${point.x} ${low}V${high}M${point.x - 4} ${low}h8M${point.x - 4} ${high}h8`;
    group.append(drawn("path", { class: "whiskers", d: whisker }));
  }
  group.append(marker(point.entry.method, point.x, point.y));
  svg.append(group);
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
  const icon = drawn(
    "svg",
    { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" },
    marker(method, 0, 0),
  );
  const item = element("li", {}, icon, method);
  paintAs(item, method);
  return item;
}

/** A reference's line, labelled at the end that has room. */
function drawLine(svg, line, y, width, taken) {
  const place = y.place(line.mean);
  svg.append(
    drawn("line", {
      class: `reference ${line.kind}`,
      x1: MARGIN.left,
      x2: width - MARGIN.right,
      y1: place,
      y2: place,
    }),
  );
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

/** Moves points aside that would hide another or its whiskers, no further than need be. */
function dodged(points, y) {
  const taken = [];
  for (const point of [...points].sort((a, b) => b.mean - a.mean)) {
    const moves = SIDE_STEPS.map((step) => covered({ ...point, x: point.x + step }, y));
    const free = moves.findIndex((boxes) =>
      boxes.every((wanted) => taken.every((other) => areApart(wanted, other))),
    );
    const chosen = free === -1 ? 0 : free;
    point.x += SIDE_STEPS[chosen];
    taken.push(...moves[chosen]);
  }
  return points;
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

function box(left, top, width, height) {
  return { left, top, right: left + width, bottom: top + height };
}

function isFree(wanted, taken, width) {
  const inside =
    wanted.left >= MARGIN.left &&
    wanted.right <= width - 2 &&
    wanted.top >= 2 &&
    wanted.bottom <= HEIGHT - MARGIN.bottom;
  return inside && taken.every((other) => areApart(wanted, other));
}

function areApart(one, other) {
  return one.right < other.left || one.left > other.right || one.bottom < other.top || one.top > other.bottom;
}
