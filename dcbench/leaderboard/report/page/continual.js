// Continual learning: accuracy on the classes seen after each step, in tables and as curves over the steps.

/** The tables that the filters leave, each with a plot for each network; nothing where there are none. */
function continual() {
  const shown = DATA.continual.filter(
    (table) =>
      (!state.dataset || table.dataset === state.dataset) &&
      (!state.ipc || ipcValue(table.ipc) === state.ipc) &&
      (!state.protocol || table.protocol === state.protocol) &&
      (!state.track || table.track === state.track) &&
      (!state.measure || measureOf(table) === state.measure) &&
      (!state.network || table.curves.some((curve) => curve.network === state.network)),
  );
  if (!shown.length) return [];
  const key = element("p", { class: "key" }, DATA.continual_legend);
  return [element("h2", {}, "Continual learning"), key, ...shown.map(continualBoard)];
}

function continualBoard(table) {
  const networks = distinct(table.curves.map((curve) => curve.network));
  const picked = networks.filter((network) => !state.network || network === state.network);
  const methods = METHODS.filter((method) => table.curves.some((curve) => curve.method === method));
  const name = `${table.dataset}, ${table.title}`;
  return element(
    "article",
    { class: "board" },
    element("h3", {}, name),
    continualTable(table, name),
    element("div", { class: "plots" }, ...picked.map((network) => continualPlot(table, network, name))),
    element("ul", { class: "legend", "aria-label": "Methods" }, ...methods.map(legendItem)),
  );
}

function continualTable(table, name) {
  const kind = (column) => (["method", "matched on", "network"].includes(table.columns[column]) ? "text" : "number");
  const cells = (line, tag) => line.map((text, column) => element(tag, { class: kind(column) }, text));
  const head = element("tr", {}, ...cells(table.columns, "th"));
  const lines = table.lines.filter((_, index) => !state.network || table.curves[index].network === state.network);
  const rows = lines.map((line) => element("tr", {}, ...cells(line, "td")));
  const body = [element("caption", {}, name), element("thead", {}, head), element("tbody", {}, ...rows)];
  const scroller = { class: "scroller", role: "region", tabindex: "0", "aria-label": name };
  return element("div", scroller, element("table", { class: "continual" }, ...body));
}

function continualPlot(table, network, name) {
  const points = table.curves
    .filter((curve) => curve.network === network)
    .flatMap((curve) =>
      curve.values.map(([seen, mean, low, high]) => ({
        entry: { ...curve, seen },
        mean,
        interval: low === null ? null : [low, high],
        label: "",
      })),
    );
  return plot({
    points,
    lines: [],
    accuracy: `${scoreName(table)} on ${network}${unitOf(table) ? `, ${unitOf(table)}` : ""}`,
    name,
    width: 420,
    title: "classes seen",
    value: (entry) => entry.seen,
    written: String,
    joined: true,
    linear: true,
  });
}
