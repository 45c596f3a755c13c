// The condensed images: raw pixels, drawn as they are.

const MOST_COLUMNS = 20;
const TILE = 34; // pixels of the page, about, that an image is wide

/** The pictures of a board's tables, a figure for each row. */
function pictures(tables) {
  const figures = tables
    .flatMap((table) => table.entries.map((entry) => figureOf(entry, tables.length > 1)))
    .filter(Boolean);
  const lacking = distinct(
    tables.flatMap((table) =>
      table.entries
        .filter((entry) => !entry.picture)
        .map((entry) => `${entryName(entry)}: ${entry.no_picture ?? "no set"}.`),
    ),
  );
  const made = [];
  if (figures.length)
    made.push(
      element("p", { class: "key" }, pictureNote(tables)),
      element("div", { class: "pictures" }, ...figures),
    );
  if (lacking.length)
    made.push(element("p", { class: "small lacking" }, "Without a picture: ", lacking.join(" ")));
  return made;
}

function pictureNote(tables) {
  const shown = tables
    .flatMap((table) => table.entries)
    .map((entry) => DATA.pictures[entry.picture])
    .filter(Boolean);
  const classes = Math.max(0, ...shown.map((picture) => distinct(picture.labels).length));
  const order = classes > MOST_COLUMNS ? "class by class" : "a column for each class";
  return `The first set of each row, ${order}. Of larger sets, the first images of each class.`;
}

function figureOf(entry, sayIpc) {
  const picture = DATA.pictures[entry.picture];
  if (!picture) return null;
  const name = entryName(entry) + (sayIpc ? `, ${ipcName(entry.ipc)}` : "");
  return element("figure", {}, canvasOf(picture, name), element("figcaption", {}, name));
}

function canvasOf(picture, name) {
  const [count, , height, width] = picture.shape;
  const places = layout(picture.labels);
  const columns = Math.max(...places.map(([column]) => column)) + 1;
  const rows = Math.max(...places.map(([, row]) => row)) + 1;
  const canvas = element("canvas", {
    role: "img",
    width: columns * (width + 1) - 1,
    height: rows * (height + 1) - 1,
  });
  const classes = distinct(picture.labels).length;
  canvas.setAttribute(
    "aria-label",
    `${counted(count, "condensed image")} of ${counted(classes, "class").replace("classs", "classes")}: ${name}`,
  );
  canvas.style.width = `${canvas.width * Math.max(1, Math.round(TILE / width))}px`;
  paint(canvas.getContext("2d"), picture, places);
  return canvas;
}

/** The column and row of every image: a column for each class, or, for many classes, one image after the other. */
function layout(labels) {
  const classes = distinct(labels);
  if (classes.length > MOST_COLUMNS)
    return labels.map((_, index) => [index % MOST_COLUMNS, Math.floor(index / MOST_COLUMNS)]);
  const next = new Map(classes.map((label) => [label, 0]));
  return labels.map((label) => {
    const row = next.get(label);
    next.set(label, row + 1);
    return [classes.indexOf(label), row];
  });
}

/** Paints every image in its place; those without three channels in grey, of the first. */
function paint(context, picture, places) {
  const [, channels, height, width] = picture.shape;
  const raw = atob(picture.pixels);
  const plane = height * width;
  places.forEach(([column, row], number) => {
    const image = context.createImageData(width, height);
    for (let pixel = 0; pixel < plane; pixel += 1) {
      for (let colour = 0; colour < 3; colour += 1) {
        const channel = channels === 3 ? colour : 0;
        image.data[4 * pixel + colour] = raw.charCodeAt((number * channels + channel) * plane + pixel);
      }
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, column * (width + 1), row * (height + 1));
  });
}
