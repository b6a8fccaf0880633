"use strict";
// One page: rows come from #rows, thumbnails from #t0, #t1 … as they are needed.
// Text from outside is only ever set as textContent.

const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);

const data = read("data");
const rows = read("rows");
const UNCERTAIN = "uncertain";
const BINS = data.histogram.length;
const SPARE = 3; // rows of tiles kept above and below the window
const PRINTED = 400; // tiles on paper

for (const [position, row] of rows.entries()) {
  row.thumbnail = `t${position}`;
  row.top = row.scores.length ? row.scores[0][1] : null;
  row.margin = row.scores.length > 1 ? row.top - row.scores[1][1] : row.top;
  row.time = row.ms ? row.ms[0] + row.ms[1] + row.ms[2] : null;
  row.label = row.error ? "error" : nameOf(row.scores[0][0]);
  row.title = row.uncertain ? `${UNCERTAIN} (${row.label})` : row.label;
  row.bin = row.top === null ? null : Math.min(BINS - 1, Math.floor(BINS * row.top));
  row.found = [row.path, row.part ?? "", row.title, row.truth ?? ""].join("\n").toLowerCase();
}

function nameOf(index) {
  return data.names[index] ?? `class ${index}`;
}

const grouped = new Intl.NumberFormat("en").format; // thousands by commas

function probability(value) {
  return value.toFixed(3);
}

/** Make an element; a child is an element or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// ---------------------------------------------------------------- names that tell images apart

/** Name each row by as much of the end of its path as tells all paths apart. */
function nameRows() {
  const paths = new Map(rows.map((row) => [row.path, split(row.path)]));
  let depth = 1;
  while (tails(paths, depth).size < paths.size) depth++;
  const shared = sharedFolders(paths, depth);
  for (const row of rows) row.name = collapsed(paths.get(row.path).slice(-depth), shared);
}

/** Names in a path: an archive before what is in it, a server as one name. */
function split(path) {
  const [, scheme, rest] = path.match(/^([a-z][a-z0-9+.-]+:\/\/)(.*)$/is) ?? [null, "", path];
  const archive = scheme && rest.includes("::") ? rest.slice(rest.indexOf("::") + 2) : "";
  if (archive) return [...split(archive), ...rest.slice(0, rest.indexOf("::")).split("/")];
  const [first, ...others] = rest.split("/");
  return [scheme + first, ...others];
}

function tails(paths, depth) {
  return new Set([...paths.values()].map((parts) => parts.slice(-depth).join("/")));
}

/** Places, counted from the end, of folders that are the same in all paths. */
function sharedFolders(paths, depth) {
  const shared = new Set();
  for (let place = 2; place < depth; place++) {
    const folders = new Set([...paths.values()].map((parts) => parts.at(-place)));
    if (folders.size === 1) shared.add(place);
  }
  return shared;
}

/** Join the parts of a path, with an ellipsis for the folders that tell nothing. */
function collapsed(parts, shared) {
  const said = parts.map((part, n) => (shared.has(parts.length - n) ? "…" : part));
  return said.filter((part, n) => part !== "…" || said[n - 1] !== "…").join("/");
}

/** How many characters, of whole words and numbers, all names begin and end with. */
function commonEnds(names) {
  const first = names[0] ?? "";
  const shortest = names.reduce((least, name) => Math.min(least, name.length), first.length);
  const agree = (at) => names.every((name) => name.at(at) === first.at(at));
  let [before, after] = [0, 0];
  if (new Set(names).size < 2) return { before, after };
  while (before < shortest && agree(before)) before++;
  while (before > 0 && WORD.test(first[before - 1])) before--;
  while (after < shortest - before && agree(-1 - after)) after++;
  while (after > 0 && WORD.test(first.at(-after))) after--;
  return { before, after };
}

const WORD = /[a-z0-9]/i;

/** Shorten a name to so many characters; what all names begin and end with goes first. */
function shortened(name, most, { before, after }) {
  if (name.length <= most) return name;
  const middle = name.slice(before, name.length - after);
  const room = most - middle.length;
  if (room < 2) return cutMiddle(middle, most);
  const head = Math.min(before, Math.max(Math.floor(room / 2), room - after));
  const tail = Math.min(after, room - head);
  const start = before > head ? `${name.slice(0, head - 1)}…` : name.slice(0, before);
  const end = name.slice(name.length - after);
  return start + middle + (after > tail ? `…${end.slice(end.length - tail + 1)}` : end);
}

function cutMiddle(words, most) {
  if (words.length <= most) return words;
  const head = Math.floor((most - 1) / 2);
  return `${words.slice(0, head)}…${words.slice(words.length - (most - 1 - head))}`;
}

const pen = document.createElement("canvas").getContext("2d");

/**
 * The longest form of a row's name that is not wider than a tile; its part is kept whole.
 * The font is that of a file name.
 */
function fitted(row, width) {
  const said = (most) => inFull(row, shortened(row.name, most, ends));
  const wide = (most) => pen.measureText(said(most)).width > width;
  let most = row.name.length;
  if (wide(most)) most = Math.ceil((most * width) / pen.measureText(row.name).width) + 1;
  const least = row.part ? 3 : 8; // characters: a part tells images apart as well
  while (most > least && wide(most)) most--;
  return said(most);
}

/** A name, or a path, and the part of the image in words. */
function inFull(row, name) {
  return row.part ? `${name}, ${row.part}` : name;
}

nameRows();
const ends = commonEnds(rows.map((row) => row.name));

// ---------------------------------------------------------------- what is shown, in which order

const KINDS = {
  all: () => true,
  error: (row) => Boolean(row.error),
  uncertain: (row) => Boolean(row.uncertain),
  wrong: (row) => row.right === false,
  right: (row) => row.right === true,
};

const natural = new Intl.Collator(undefined, { numeric: true });

/** Compare by a number; rows without one come last. */
const by = (key, sign) => (a, b) =>
  (a[key] === null) - (b[key] === null) || sign * (a[key] - b[key]) || a.n - b.n;

const ORDERS = {
  input: (a, b) => a.n - b.n,
  unsure: by("top", 1),
  sure: by("top", -1),
  close: by("margin", 1),
  clear: by("margin", -1),
  slow: by("time", -1),
  fast: by("time", 1),
  name: (a, b) => natural.compare(a.path, b.path) || a.n - b.n,
};

const chosen = new Set(); // labels
let shown = rows;

let order = "input"; // of rows

/** What each of the four filters asks of a row. */
function filters() {
  const words = byId("search").value.trim().toLowerCase();
  const [low, high] = [Number(byId("low").value || 0), Number(byId("high").value || 1)];
  const anyScore = low <= 0 && high >= 1; // then errors are shown as well
  return {
    search: (row) => row.found.includes(words),
    kind: KINDS[document.querySelector("#kinds input:checked").value],
    labels: (row) => chosen.size === 0 || chosen.has(row.label),
    range: (row) => anyScore || (row.top !== null && row.top >= low && inside(row.top, high)),
  };
}

/** Those rows that fit all filters, and for each filter with counts those that fit all others. */
function sift() {
  const { search, kind, labels, range } = filters();
  const fits = { all: [], kind: [], labels: [], range: [] };
  for (const row of rows) {
    if (!search(row)) continue;
    const [ofKind, labelled, inRange] = [kind(row), labels(row), range(row)];
    if (ofKind && labelled && inRange) fits.all.push(row);
    if (labelled && inRange) fits.kind.push(row);
    if (ofKind && inRange) fits.labels.push(row);
    if (ofKind && labelled) fits.range.push(row);
  }
  return fits;
}

function update() {
  if (order !== byId("sort").value) {
    order = byId("sort").value;
    rows.sort(ORDERS[order]);
  }
  const fits = sift();
  shown = fits.all;
  const some = shown.length === rows.length ? "" : `${grouped(shown.length)} of `;
  byId("count").textContent = some + images(rows.length);
  byId("none").hidden = shown.length > 0;
  countKinds(fits.kind);
  countLabels(fits.labels);
  countBins(fits.range);
  current = 0;
  const above = gallery.getBoundingClientRect().top;
  if (above < 0) scrollBy({ top: above - 48, behavior: "instant" }); // back to the first of them
  redraw();
}

/** The last bin holds 1 itself; the others end before the next begins. */
function inside(top, high) {
  return high >= 1 ? top <= 1 : top < high;
}

function isBin(bin, low, high) {
  return Math.abs(low - bin / BINS) < 1e-9 && Math.abs(high - (bin + 1) / BINS) < 1e-9;
}

// ---------------------------------------------------------------- histogram and labels

function drawHistogram() {
  for (let bin = 0; bin < BINS; bin++) {
    const [low, high] = [bin / BINS, (bin + 1) / BINS].map((edge) => edge.toFixed(2));
    const bar = make("button", { type: "button" }, make("span"));
    bar.dataset.words = `${low} to ${high}`;
    bar.tabIndex = -1;
    bar.addEventListener("click", () => {
      const pressed = bar.getAttribute("aria-pressed") === "true";
      byId("low").value = pressed ? 0 : Number(low);
      byId("high").value = pressed ? 1 : Number(high);
      update();
    });
    byId("histogram").append(bar);
  }
  rove(byId("histogram"));
}

function drawLabels() {
  for (const [label, count] of data.labels) {
    const name = make("span", { class: "name", dir: "auto" }, label);
    const fill = make("span", { class: "fill", "aria-hidden": "true" });
    const number = make("span", { class: "number" });
    const title = label + inAll(count);
    const bar = make("button", { type: "button", title }, fill, name, " ", number);
    bar.dataset.label = label;
    bar.tabIndex = -1;
    bar.addEventListener("click", () => {
      if (!chosen.delete(label)) chosen.add(label);
      update();
    });
    byId("labels").append(bar);
  }
  rove(byId("labels"));
}

// Each count is that of the tiles that a click would show: of rows that fit all other filters.

function countKinds(fitting) {
  for (const input of document.querySelectorAll("#kinds input")) {
    const count = fitting.filter(KINDS[input.value]).length;
    input.parentElement.querySelector(".number").textContent = grouped(count);
    input.parentElement.classList.toggle("zero", count === 0);
  }
}

function countLabels(fitting) {
  const counts = countBy(fitting, (row) => row.label);
  const bars = [...byId("labels").children];
  const most = bars.reduce((most, bar) => Math.max(most, counts.get(bar.dataset.label) ?? 0), 1);
  for (const bar of bars) {
    const count = counts.get(bar.dataset.label) ?? 0;
    bar.setAttribute("aria-pressed", chosen.has(bar.dataset.label));
    const told = `${count} of ${most}`;
    if (bar.dataset.told === told) continue; // rewriting a thousand of them would be slow
    bar.dataset.told = told;
    const [fill, , number] = bar.children;
    number.textContent = grouped(count);
    fill.style.width = `${(100 * count) / most}%`;
    bar.classList.toggle("zero", count === 0);
  }
}

function countBins(fitting) {
  const counts = countBy(fitting, (row) => row.bin);
  const [low, high] = [Number(byId("low").value || 0), Number(byId("high").value || 1)];
  const bars = [...byId("histogram").children];
  const most = Math.max(1, ...bars.map((_, bin) => counts.get(bin) ?? 0));
  for (const [bin, bar] of bars.entries()) {
    const count = counts.get(bin) ?? 0;
    bar.title = `${bar.dataset.words}: ${images(count)}${inAll(data.histogram[bin])}`;
    bar.setAttribute("aria-label", bar.title);
    bar.setAttribute("aria-pressed", isBin(bin, low, high));
    // a single image among thousands is still seen
    bar.firstChild.style.height = count ? `max(2px, ${(100 * count) / most}%)` : "0";
  }
}

/** How many the whole run has, where this page holds a sample of it. */
function inAll(count) {
  return rows.length < data.images ? ` (${images(count)} in the whole run)` : "";
}

function images(count) {
  return `${grouped(count)} ${count === 1 ? "image" : "images"}`;
}

function countBy(fitting, key) {
  const counts = new Map();
  for (const row of fitting) counts.set(key(row), (counts.get(key(row)) ?? 0) + 1);
  return counts;
}

/** Make a group of buttons one stop of the Tab key, in which arrow keys move. */
function rove(group) {
  const bars = [...group.children];
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (bars.length) bars[0].tabIndex = 0;
  group.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    bars[bars.indexOf(document.activeElement) + steps[event.key]]?.focus();
  });
  group.addEventListener("focusin", (event) => {
    for (const bar of bars) bar.tabIndex = bar === event.target ? 0 : -1;
  });
}

// ---------------------------------------------------------------- gallery
// Only the tiles near the window exist; space above and below stands for the others.

const gallery = byId("gallery");
const tiles = new Map(); // position among those shown -> tile
let tileWidth = 0; // pixels
let current = 0; // position of the tile that the keyboard is on

function picture(row) {
  const encoded = byId(row.thumbnail)?.textContent;
  const words = document.readyState === "loading" ? "" : "no image"; // it is still loading
  if (!encoded) return make("span", { class: "blank" }, row.error ?? words);
  return make("img", { src: `data:image/jpeg;base64,${encoded}`, alt: "", decoding: "async" });
}

function scoreBar(row) {
  const bar = make("span", { class: "stack", "aria-hidden": "true" });
  for (const [, value] of row.scores) {
    const part = make("span");
    part.style.width = `${100 * value}%`;
    bar.append(part);
  }
  return bar;
}

function mark(row) {
  if (row.right === undefined) return "";
  const [sign, words] = row.right ? ["✓", "right"] : ["✗", "wrong"];
  const attributes = { class: `mark ${words}`, role: "img", "aria-label": words, title: words };
  return make("span", attributes, sign);
}

function truth(row) {
  if (row.right !== false) return "";
  const words = `actually ${row.truth}`;
  return make("span", { class: "truth", title: words }, words);
}

function stateOf(row) {
  if (row.error) return "error";
  if (row.right === false) return "wrong";
  return row.uncertain ? "doubt" : "fine";
}

function makeTile(position) {
  const row = shown[position];
  const label = make("span", { class: "label", dir: "auto" }, row.title);
  const value = row.top === null ? "" : make("span", { class: "value" }, probability(row.top));
  const button = make(
    "button",
    { type: "button", class: `tile ${stateOf(row)}`, "aria-haspopup": "dialog", tabindex: "-1" },
    make("span", { class: "frame" }, picture(row), truth(row)),
    scoreBar(row),
    make("span", { class: "line" }, mark(row), label, " ", value),
    make("span", { class: "file", title: inFull(row, row.path) }, fitted(row, tileWidth)),
  );
  button.addEventListener("click", () => open(position));
  button.addEventListener("focus", () => move(position));
  return make("li", { "aria-posinset": position + 1, "aria-setsize": shown.length }, button);
}

/** Take width and font of a file name from the page, for ``fitted``. */
function measureTiles() {
  const style = getComputedStyle(gallery);
  tileWidth = parseFloat(style.gridTemplateColumns);
  pen.font = `12px ${style.fontFamily}`;
}

function columns() {
  return getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
}

/** Height of a row of tiles with the gap below it, in pixels. */
function rowHeight() {
  const style = getComputedStyle(gallery);
  return parseFloat(style.gridAutoRows) + parseFloat(style.rowGap);
}

/** Positions [from, to) of the tiles that should exist. */
function range() {
  if (matchMedia("print").matches || printing) return [0, Math.min(shown.length, PRINTED)];
  const across = columns();
  const above = -gallery.getBoundingClientRect().top / rowHeight();
  const first = Math.floor(above) - SPARE;
  const last = Math.ceil(above + innerHeight / rowHeight()) + SPARE;
  const limited = (position) => Math.max(0, Math.min(position, shown.length));
  return [limited(first * across), limited(last * across)];
}

function render() {
  measureTiles();
  const [from, to] = range();
  for (const [position, tile] of tiles) {
    if (position < from || position >= to) {
      tile.remove();
      tiles.delete(position);
    }
  }
  let after = null; // tiles stay in order, and the one in focus is never moved
  for (let position = to - 1; position >= from; position--) {
    if (!tiles.has(position)) {
      tiles.set(position, makeTile(position));
      gallery.insertBefore(tiles.get(position), after);
    }
    after = tiles.get(position);
  }
  const [across, height] = [columns(), rowHeight()];
  gallery.style.paddingTop = printing ? "0" : `${Math.floor(from / across) * height}px`;
  gallery.style.paddingBottom = printing
    ? "0"
    : `${(Math.ceil(shown.length / across) - Math.ceil(to / across)) * height}px`;
  reachable();
}

/** Of all tiles the Tab key stops at one. */
function reachable() {
  const stop = tiles.has(current) ? current : Math.min(...tiles.keys());
  for (const [position, tile] of tiles) {
    tile.firstChild.tabIndex = position === stop ? 0 : -1;
  }
}

function move(position) {
  current = position;
  reachable();
}

/** Bring a tile into the window and the keyboard onto it. */
function focusTile(position) {
  current = position;
  if (!tiles.has(position)) {
    const top = gallery.getBoundingClientRect().top + scrollY;
    scrollTo({ top: top + Math.floor(position / columns()) * rowHeight() - innerHeight / 3 });
    render();
  }
  tiles.get(position)?.firstChild.focus();
}

const STEPS = {
  ArrowRight: () => 1,
  ArrowLeft: () => -1,
  ArrowDown: columns,
  ArrowUp: () => -columns(),
  PageDown: () => columns() * Math.max(1, Math.floor(innerHeight / rowHeight())),
  PageUp: () => -columns() * Math.max(1, Math.floor(innerHeight / rowHeight())),
  Home: () => -shown.length,
  End: () => shown.length,
};

gallery.addEventListener("keydown", (event) => {
  if (!(event.key in STEPS) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  focusTile(Math.max(0, Math.min(shown.length - 1, current + STEPS[event.key]())));
});

// ---------------------------------------------------------------- one image

const detail = byId("detail");
let at = 0; // position of the image in it; the tile that it came from gets the focus back first

function open(position) {
  at = position;
  show(shown[position]);
  if (detail.open) return;
  detail.showModal();
  detail.focus(); // not its first button: arrow keys and Escape are all one needs
}

function show(row) {
  byId("position").textContent =
    `${grouped(at + 1)} of ${grouped(shown.length)}`;
  const value = row.top === null ? "" : probability(row.top);
  byId("told").textContent = `${row.title} ${value}, ${inFull(row, row.name)}`;
  byId("previous").setAttribute("aria-disabled", at === 0); // keeps the keyboard's place
  byId("next").setAttribute("aria-disabled", at === shown.length - 1);
  const image = picture(row);
  if (image.tagName === "IMG") image.alt = inFull(row, row.name);
  byId("picture").replaceChildren(image);
  byId("detail-label").textContent = row.title;
  byId("verdict").className = stateOf(row);
  byId("verdict").textContent = verdict(row);
  byId("scores").replaceChildren(...row.scores.map((score) => scoreLine(score)));
  byId("times").replaceChildren(...timeLines(row));
  byId("path").textContent = row.path;
  byId("part").textContent = row.part ?? "";
  byId("part").hidden = !row.part;
  byId("open").hidden = !row.href;
  byId("open").href = row.href ?? "";
  byId("copied").textContent = "";
}

function verdict(row) {
  if (row.error) return row.error;
  const words = [];
  if (row.right === true) words.push("✓ right");
  if (row.right === false) {
    words.push(`✗ predicted ${row.label} (${probability(row.top)}), actually ${row.truth}`);
  }
  if (row.uncertain) words.push("under the threshold");
  return words.join(" · ");
}

function scoreLine([index, value]) {
  const bar = make("span", { class: "fill", "aria-hidden": "true" });
  bar.style.width = `${100 * value}%`;
  const name = make("span", { class: "name", dir: "auto" }, nameOf(index));
  return make("li", {}, bar, name, " ", make("span", { class: "number" }, value.toFixed(4)));
}

function timeLines(row) {
  if (!row.ms) return [];
  const stages = ["decode", "preprocess", "forward"];
  return stages.map((stage, number) =>
    make("div", {}, make("dt", {}, stage), make("dd", {}, `${row.ms[number].toFixed(2)} ms`)),
  );
}

function step(change) {
  if (at + change in shown) open(at + change);
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close(); // outside of the sheet
});
detail.addEventListener("close", () => focusTile(at));
detail.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.key in steps) {
    event.preventDefault();
    step(steps[event.key]);
  }
});

byId("copy").addEventListener("click", async () => {
  const row = shown[at];
  try {
    await navigator.clipboard.writeText(row.raw ?? row.path);
    byId("copied").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("path")); // the browser forbids it: one key is left
    byId("copied").textContent = "Selected: press Ctrl+C";
  }
});

// ---------------------------------------------------------------- what starts it all

let printing = false;
let waiting = 0;

function renderSoon() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    render();
  });
}

/** Redraw all tiles: their images have arrived, or the number per row has changed. */
function redraw() {
  tiles.clear();
  gallery.replaceChildren();
  render();
}

const form = document.querySelector("form");
form.addEventListener("input", update);
byId("sort").addEventListener("change", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  chosen.clear();
  setTimeout(update); // once the fields have been reset
});
addEventListener("scroll", renderSoon, { passive: true });
addEventListener("resize", renderSoon);
addEventListener("DOMContentLoaded", redraw);
addEventListener("beforeprint", () => {
  printing = true;
  for (const element of document.querySelectorAll("details")) element.open = true;
  redraw();
});
addEventListener("afterprint", () => {
  printing = false;
  redraw();
});

if (matchMedia("(max-width: 760px)").matches) document.querySelector(".filters").open = false;
drawHistogram();
drawLabels();
update();
