// What is chosen, and the address that says so: a copied link shows the same.

const NETWORK_COLUMNS = 8; // a table with more networks says how many there are, and their range
const FILTERS = ["dataset", "ipc", "protocol", "track", "measure", "network"];
const state = { dataset: "", ipc: "", protocol: "", track: "", measure: "", network: "", sort: "", order: "", row: "" };

/** The values of each filter, as they stand in the address. */
const CHOICES = {
  dataset: distinct(DATA.tables.map((table) => table.dataset)),
  ipc: distinct(DATA.tables.map((table) => table.ipc))
    .sort((a, b) => (a ?? Infinity) - (b ?? Infinity))
    .map(ipcValue),
  protocol: distinct(DATA.tables.map((table) => table.protocol)).sort(),
  track: distinct(DATA.tables.map((table) => table.track)).sort(),
  measure: distinct(DATA.tables.map(measureOf)).sort(),
  network: distinct(DATA.tables.flatMap(networksOf)).sort(),
};

function ipcValue(ipc) {
  return ipc === null ? "any" : String(ipc);
}

function measureOf(table) {
  return table.measure ?? "accuracy";
}

/** The networks that get a column each. */
function networksOf(table) {
  const names = distinct(table.entries.flatMap((entry) => Object.keys(entry.scores))).sort();
  return names.length > NETWORK_COLUMNS ? [] : names;
}

/** Takes over what the address says; what it says of things that are not there is passed over. */
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const name of FILTERS) {
    state[name] = CHOICES[name].includes(said.get(name)) ? said.get(name) : "";
  }
  state.sort = said.get("sort") || "";
  state.order = said.get("order") === "descending" ? "descending" : "ascending";
  state.row = said.get("row") || "";
}

/** The address of a row: it shows everything, at that row. */
function rowAddress(table, entry) {
  return `#${new URLSearchParams({ row: rowName(table, entry) })}`;
}

function rowName(table, entry) {
  const { dataset, dataset_sha256: data, ipc, protocol, track } = table;
  const teachers = (entry.teachers ?? []).map((teacher) => teacher.sha256.slice(0, 8));
  const measure = table.measure ? [table.measure] : [];
  const place = [dataset, data.slice(0, 8), ipcValue(ipc), protocol, track, ...measure, ...teachers];
  return [...place, entryName(entry)].join(" / ");
}

function writeAddress() {
  const said = new URLSearchParams();
  for (const name of FILTERS) {
    if (state[name]) said.set(name, state[name]);
  }
  if (state.sort) {
    said.set("sort", state.sort);
    said.set("order", state.order);
  }
  history.replaceState(null, "", `#${said}`);
}

/** The tables that are chosen, each with the entries that are. References stay, measured on the network or not. */
function chosenTables() {
  return DATA.tables
    .filter((table) => !state.dataset || table.dataset === state.dataset)
    .filter((table) => !state.ipc || ipcValue(table.ipc) === state.ipc)
    .filter((table) => !state.protocol || table.protocol === state.protocol)
    .filter((table) => !state.track || table.track === state.track)
    .filter((table) => !state.measure || measureOf(table) === state.measure)
    .map((table) => ({ ...table, entries: table.entries.filter(isChosen), networks: table.networks }))
    .filter((table) => table.entries.some((entry) => isMeasured(entry)));
}

function isMeasured(entry) {
  return !state.network || state.network in entry.scores;
}

function isChosen(entry) {
  return isMeasured(entry) || entry.reference !== null;
}

/** Puts together the tables of what may be compared across images per class. */
function boardsOf(tables) {
  const boards = new Map();
  for (const table of tables) {
    const key = JSON.stringify([
      table.dataset,
      table.dataset_sha256,
      table.protocol,
      table.budget,
      table.track,
      measureOf(table),
    ]);
    if (!boards.has(key)) boards.set(key, []);
    boards.get(key).push(table);
  }
  return [...boards.values()];
}
