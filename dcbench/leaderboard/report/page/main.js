// Puts the page together, and again whenever a filter changes.

const OPEN_BOARDS = 3; // with more on the page, what is beneath the tables is opened by hand

const filters = document.getElementById("filters");
const boards = document.getElementById("boards");

function start() {
  for (const name of FILTERS) {
    const select = filters.elements[name];
    for (const value of CHOICES[name]) select.append(element("option", { value }, optionText(name, value)));
    select.addEventListener("change", () => {
      state[name] = select.value;
      state.row = "";
      writeAddress();
      show();
    });
  }
  document.getElementById("reset").addEventListener("click", reset);
  window.addEventListener("hashchange", readAndShow);
  window.addEventListener("resize", onResize);
  filters.hidden = false;
  startTheme();
  showSubmissions();
  readAndShow();
}

function optionText(name, value) {
  if (name === "ipc") return value === ipcValue(null) ? "all images" : value;
  return name === "track" ? trackName(value) : value;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function trackName(track) {
  return `${track.replace("-", " ")}s`;
}

function reset() {
  for (const name of FILTERS) state[name] = "";
  [state.sort, state.order, state.row] = ["", "ascending", ""];
  writeAddress();
  readAndShow();
}

function readAndShow() {
  readAddress();
  for (const name of FILTERS) filters.elements[name].value = state[name];
  show();
}

function show() {
  const tables = chosenTables();
  const groups = boardsOf(tables);
  document.getElementById("count").textContent = countText(tables);
  const many = groups.length > OPEN_BOARDS;
  boards.classList.toggle("many", many);
  boards.replaceChildren(...groups.map((group) => board(group, !many)));
  const steps = continual();
  document.getElementById("continual").replaceChildren(...steps);
  if (!groups.length && !steps.length) boards.append(nothing());
  fillOpened();
  document.getElementById("linked")?.scrollIntoView({ block: "center" });
}

function countText(tables) {
  const rowsOf = (some) => some.reduce((sum, table) => sum + table.entries.length, 0);
  const rows = `${rowsOf(tables)} of ${counted(rowsOf(DATA.tables), "row")}`;
  return `${rows} in ${tables.length} of ${counted(DATA.tables.length, "table")}`;
}

function nothing() {
  const button = element("button", { type: "button" }, "Show everything");
  button.addEventListener("click", () => {
    reset();
    filters.elements.dataset.focus();
  });
  return element("p", { class: "notice", id: "nothing" }, "Nothing matches these filters. ", button);
}

/** What may be compared: a table for each number of images per class, and beneath them what is drawn of all. */
function board(tables, open) {
  const [table] = tables;
  const measure = table.measure ? `, ${scoreName(table)}` : "";
  const name = `${table.dataset}, ${table.protocol}, ${trackName(table.track)}${measure}`;
  const sections = tables.map((each) =>
    element(
      "section",
      {},
      element("h3", {}, ipcName(each.ipc)),
      element("p", { class: "key averaged" }, averagedText(each)),
      standingsTable(each, `${name}, ${ipcName(each.ipc)}`),
    ),
  );
  return element(
    "article",
    { class: "board" },
    element("h2", {}, table.dataset, element("span", { class: "about" }, aboutBoard(table))),
    ...sections,
    ...(networksOf(table).length ? [heats(tables, open)] : []),
    part(`${capital(scoreName(table))} against cost`, open, (node) => plots(tables, name, node.clientWidth), true),
    ...curveParts(tables, name, open),
    part("Condensed images", open, () => pictures(tables)),
  );
}

function heats(tables, open) {
  const made = () => tables.map((each) => heatMap(each, ipcName(each.ipc)));
  return part("Across architectures", open, () => [element("div", { class: "heats" }, ...made())]);
}

function aboutBoard(table) {
  const versions = distinct(
    DATA.tables.filter((each) => each.dataset === table.dataset).map((each) => each.dataset_sha256),
  );
  const said = [trackName(table.track), `protocol ${table.protocol}`];
  if (table.measure) said.push(scoreName(table) + (table.lower_is_better ? ", lower is better" : ""));
  if (table.budget !== "full") said.push(`budget ${table.budget}`);
  if (versions.length > 1) said.push(`data ${table.dataset_sha256.slice(0, 12)}`);
  return said.join(" · ");
}

/** A part of a board, filled when it is opened, and again when its width changes if it depends on that. */
function part(title, open, fill, ofItsWidth = false) {
  const body = element("div", { class: "part" });
  const made = element("details", open ? { open: "" } : {}, element("summary", {}, title), body);
  made.fill = () => {
    if (made.open && (!body.hasChildNodes() || ofItsWidth)) body.replaceChildren(...fill(body));
  };
  made.ofItsWidth = ofItsWidth;
  made.addEventListener("toggle", () => made.fill());
  return made;
}

function fillOpened() {
  for (const each of boards.querySelectorAll("details")) each.fill();
}

let resizing = 0;
let widthBefore = window.innerWidth;

function onResize() {
  if (window.innerWidth === widthBefore) return; // a phone's address bar comes and goes
  widthBefore = window.innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    for (const each of boards.querySelectorAll("details")) if (each.ofItsWidth) each.fill();
  }, 150);
}

/** The theme is the system's until the button is pressed; nothing is stored. */
function startTheme() {
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
}

/** What the submissions' cards say of where the rows come from. */
function showSubmissions() {
  const described = DATA.submissions.filter((each) => each.title);
  if (!described.length) return;
  const section = document.getElementById("submissions");
  section.append(element("h2", {}, "Submissions"), ...described.map(submission));
  section.hidden = false;
}

function submission(card) {
  const by = card.submitted_by.length
    ? [element("p", { class: "small" }, `${card.name}, by ${card.submitted_by.join(", ")}`)]
    : [];
  const commands = card.commands.length ? [element("pre", {}, card.commands.join("\n"))] : [];
  const methods = card.methods
    .filter((each) => each.title || each.paper)
    .map((each) => element("li", {}, ...reference(each)));
  return element(
    "article",
    {},
    element("h3", {}, card.title),
    ...by,
    ...card.notes.map((note) => element("p", {}, note)),
    ...(methods.length ? [element("ul", {}, ...methods)] : []),
    ...card.files.map(publishedFile),
    ...commands,
  );
}

/** Where sets are that others publish, and that the submission does not have. */
function publishedFile(file) {
  const where = link(file.url, "published by others") ?? "published by others";
  return element("p", { class: "small" }, "Sets ", where, `: ${file.licence}; SHA-256 ${file.sha256.slice(0, 12)}…`);
}

/** What the card says of a method, with links to its paper and code. */
function reference(method) {
  const parts = [method.authors.join(", "), method.title, method.paper].filter(Boolean);
  const said = parts.map((part) => (part.endsWith(".") ? part : `${part}.`)).join(" ");
  const links = [link(method.paper_url, "paper"), link(method.code_url, "authors' code")].filter(Boolean);
  return [`${method.name}: ${said} `, ...links.flatMap((each) => [each, " "])];
}

start();
