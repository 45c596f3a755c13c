// Accuracy against images per class: what more images bring, and how many random ones are as good.

const CURVE_SIZES = 3; // images per class that a curve needs

/** The part of a board with its curves; none where there are too few sizes. */
function curveParts(tables, name, open) {
  const sizes = distinct(tables.map((table) => table.ipc).filter((ipc) => ipc !== null));
  if (sizes.length < CURVE_SIZES) return [];
  return [part(`${capital(scoreName(tables[0]))} against images per class`, open, (node) => curves(tables, name, node.clientWidth), true)];
}

function curves(tables, name, width) {
  const points = tables.flatMap((table) => pointsOf(table, true)).filter(({ entry }) => entry.ipc !== null);
  labelPoints(points);
  const figure = plot({
    points: points.map((point) => ({ ...point, label: "" })),
    lines: referenceLines(tables).filter((line) => line.kind === "ceiling"),
    accuracy: quantity(tables[0]),
    name,
    width: Math.min(width, 760),
    title: "images per class",
    value: (entry) => entry.ipc,
    written: String,
    joined: true,
  });
  const methods = METHODS.filter((method) => points.some((point) => point.entry.method === method));
  return [
    figure,
    element("ul", { class: "legend", "aria-label": "Methods" }, ...methods.map(legendItem)),
    ...crossings(points).map((text) => element("p", { class: "small" }, text)),
  ];
}

/** Joins the rows of each method, which differ in the images per class alone. */
function drawCurves(svg, placed) {
  for (const points of series(placed)) {
    const path = points.map(({ x, y }, index) => `${index ? "L" : "M"}${x} ${y}`).join("");
    const curve = drawn("path", { class: "curve", d: path });
    paintAs(curve, points[0].entry.method);
    svg.append(curve);
  }
}

/** Points by what they are but for the images per class, each from few images to many. */
function series(points) {
  const found = new Map();
  for (const point of points) {
    const key = entryName(point.entry);
    found.set(key, [...(found.get(key) ?? []), point]);
  }
  return [...found.values()].map((some) => some.sort((a, b) => a.entry.ipc - b.entry.ipc));
}

/** How many random images per class are as good as each method's smallest sets. */
function crossings(points) {
  const all = series(points);
  const floor = all.find(([first]) => first.entry.reference === "floor");
  if (!floor || floor.length < CURVE_SIZES || floor[0].entry.lower_is_better) return [];
  return all
    .filter((some) => some !== floor)
    .map(([{ entry, mean }]) => {
      const said = `${entryName(entry)} with ${ipcName(entry.ipc)}: ${methodName(floor[0].entry)} needs`;
      return `${said} ${imagesFor(floor, mean)} images per class for as much.`;
    });
}

/** Where a curve reaches an accuracy: between two points it is a straight line over the logarithm of the images. */
function imagesFor(curve, mean) {
  const above = curve.findIndex((point) => point.mean >= mean);
  if (above === -1) return `more than ${curve[curve.length - 1].entry.ipc}`;
  if (above === 0) return `at most ${curve[0].entry.ipc}`;
  const [low, high] = [curve[above - 1], curve[above]];
  const share = (mean - low.mean) / (high.mean - low.mean);
  return `about ${digits(low.entry.ipc * (high.entry.ipc / low.entry.ipc) ** share, 2)}`;
}
