// The axes of a plot: where a value stands, and the numbers beside it.

const HEIGHT = 340;
const MARGIN = { top: 14, right: 16, bottom: 46, left: 52 };
const CHARACTER = 6.3; // pixels that a letter of a label is wide, about

/** A logarithmic scale with room at both ends, and its ticks: powers of ten, and more where those are few. */
function logScale(values, start, end) {
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  const room = Math.max(0.06 * (high - low), 0.2);
  const [from, to] = [low - room, high + room];
  const place = (value) => start + ((Math.log10(value) - from) / (to - from)) * (end - start);
  const steps =
    to - from > 4
      ? [1]
      : to - from > 2
        ? [1, 3]
        : to - from > 0.8
          ? [1, 2, 5]
          : [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
  const every = Math.max(1, Math.ceil((to - from) / 7));
  const ticks = [];
  for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
    if (power % every === 0) ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return { place, ticks: ticks.filter((tick) => Math.log10(tick) >= from && Math.log10(tick) <= to) };
}

/** A scale with room at both ends, fractions within theirs, and its ticks: 1, 2 or 5 times a power of ten apart. */
function linearScale(values, start, end, of) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const fractions = unitOf(of) === "%";
  const room = Math.max(0.05 * (high - low), fractions ? 0.01 : 0.01 * Math.abs(high) || 1);
  const [from, to] = fractions ? [Math.max(0, low - room), Math.min(1, high + room)] : [low - room, high + room];
  const place = (value) => start + ((value - from) / (to - from)) * (end - start);
  const power = 10 ** Math.floor(Math.log10((to - from) / 7));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => (to - from) / each <= 7);
  const ticks = [];
  for (let index = Math.ceil(from / step); index * step <= to; index += 1) ticks.push(index * step);
  return { place, ticks, written: (tick) => written(tick, of).replace(/\.0$/, "") };
}

function heights(points, lines) {
  return [
    ...points.flatMap((point) => [point.mean, ...(point.interval || [])]),
    ...lines.map((line) => line.mean),
  ];
}

function drawAxes(svg, figure, x, y) {
  const [right, bottom] = [figure.width - MARGIN.right, HEIGHT - MARGIN.bottom];
  for (const tick of y.ticks) {
    svg.append(
      drawn("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
      drawn(
        "text",
        { class: "tick y", x: MARGIN.left - 8, y: y.place(tick) },
        y.written(tick),
      ),
    );
  }
  drawTicks(svg, figure, x, bottom);
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(
    drawn("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    drawn(
      "text",
      { class: "name x", x: (MARGIN.left + right) / 2, y: HEIGHT - 6 },
      figure.linear ? figure.title : `${figure.title}, logarithmic`,
    ),
    drawn(
      "text",
      { class: "name x", transform: `translate(14 ${middle}) rotate(-90)` },
      figure.accuracy,
    ),
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
