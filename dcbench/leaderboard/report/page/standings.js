// The table of one data set and number of images per class.

const COLLATOR = new Intl.Collator("en", { numeric: true });

/** A table in a container of its own that scrolls. */
function standingsTable(table, name) {
  const span = meanSpan(table);
  const columns = columnsOf(table, span);
  const head = element("tr", {}, ...columns.map((column) => heading(column)));
  const body = element("tbody");
  const made = element(
    "table",
    { class: "standings" },
    element("caption", {}, name),
    element("thead", {}, head),
    body,
  );
  fillBody(body, table, columns);
  made.resort = () => {
    fillBody(body, table, columns);
    for (const cell of head.children) cell.setAttribute("aria-sort", orderOf(cell.dataset.key));
  };
  return element("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": name }, made);
}

/** Over which networks the means are taken, and what labelled the images while networks were trained. */
function averagedText(table) {
  const listed = (names) => (names.length > NETWORK_COLUMNS ? counted(names.length, "network") : names.join(", "));
  const mean = listed(table.networks) || "no network that all rows have";
  const over = table.random ? [`Over random: points above ${table.random}.`] : [];
  const teachers = new Set(table.entries.flatMap((entry) => entry.teachers ?? []).map(teacherText));
  const means = `Mean: ${mean}. Unseen: ${listed(table.unseen) || "none of them"}.`;
  return [means, table.test_images, ...over, ...teachers].filter(Boolean).join(" ");
}

function teacherText(teacher) {
  const accuracy = `${percent(teacher.held_out_accuracy)} % on held-out training images`;
  return `Teacher: ${teacher.network}, ${accuracy}, ${bytes(teacher.bytes)}, hash ${teacher.sha256.slice(0, 12)}.`;
}

function heading(column) {
  const button = element("button", { type: "button" }, column.title);
  button.addEventListener("click", () => sortBy(column));
  const kind = column.numeric ? "number" : "text";
  return element(
    "th",
    {
      scope: "col",
      class: `${kind} column-${slug(column.key)}`,
      "data-key": column.key,
      "aria-sort": orderOf(column.key),
    },
    button,
  );
}

function orderOf(key) {
  return state.sort === key ? state.order : "none";
}

/** Sorts every table on the page by a column, the other way round the second time, and as at first the third. */
function sortBy(column) {
  const second = column.first === "ascending" ? "descending" : "ascending";
  if (state.sort !== column.key) [state.sort, state.order] = [column.key, column.first];
  else if (state.order === column.first) state.order = second;
  else [state.sort, state.order] = ["", "ascending"];
  writeAddress();
  for (const table of document.querySelectorAll("table.standings")) table.resort();
}

function fillBody(body, table, columns) {
  const rows = sorted(
    table.entries,
    columns.find((column) => column.key === state.sort),
  );
  const missing = table.missing.map((name) => missingRow(name, columns));
  body.replaceChildren(...rows.map((entry) => entryRow(entry, columns, table)), ...missing);
}

/** Sorts by a column's value, numbers as numbers; rows without one come last in either direction. */
function sorted(entries, column) {
  if (!column) return entries;
  const sign = state.order === "descending" ? -1 : 1;
  return [...entries].sort((first, second) => {
    const [a, b] = [column.value(first), column.value(second)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (column.numeric ? a - b : COLLATOR.compare(a, b));
  });
}

function entryRow(entry, columns, table) {
  const cells = columns.map((column) => cellOf(column, column.cell(entry)));
  const kind = entry.reference ? "reference" : entry.provisional.length ? "provisional" : null;
  const linked = state.row === rowName(table, entry) ? { id: "linked" } : {};
  return element("tr", { class: kind, ...linked }, ...cells);
}

function missingRow(name, columns) {
  const label = [
    element("span", { class: "name" }, name),
    element("span", { class: "small" }, "reference: missing, no record"),
  ];
  const cells = columns.map((column) => cellOf(column, column.key === "method" ? label : DASH));
  return element("tr", { class: "reference missing" }, ...cells);
}

function cellOf(column, content) {
  const attributes = { class: `${column.numeric ? "number" : "text"} column-${slug(column.key)}` };
  if (column.key === "method") return element("th", { scope: "row", ...attributes }, ...content);
  return element("td", attributes, ...[content].flat());
}

/** The range of the means and their intervals: the scale of the bars. */
function meanSpan(table) {
  const values = table.entries
    .flatMap((entry) => [entry.mean, ...(entry.interval || [])])
    .filter((value) => value !== null);
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

function slug(key) {
  return key.startsWith("on ") ? "network" : key;
}
