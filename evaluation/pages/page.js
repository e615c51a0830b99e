"use strict";
const bar = document.getElementById("bar");
const help = document.getElementById("help");
const singleKeys = document.getElementById("single-keys");
const inFile = [...document.querySelectorAll("article")]; // in the order of the file
let articles = inFile; // in the order on the page
const search = bar.querySelector("[name=search]");
const filters = [...bar.querySelectorAll("select:not([name=sort])")];
const fields = [...bar.querySelectorAll("[name]")];
const start = document.getElementById("examples"); // the heading above the examples
let last = start; // the element of an example that had the focus last
let origin = null; // the marked words whose link was followed last

// ------------------------------------------------------------------------------ texts of an example

// Returns a text as the file has it: without the numbers of errors and sentences.
function textOf(parent, selector) {
  const copy = parent.querySelector(selector)?.cloneNode(true);
  copy?.querySelectorAll("sup").forEach(number => number.remove());
  return copy?.textContent ?? "";
}

const searchable = new Map(); // article -> its texts in lower case, filled by the first search
function textsOf(article) {
  if (!searchable.has(article)) {
    const summaries = [...article.querySelectorAll(".summary")].map(side => textOf(side, "[data-of=summary]"));
    const texts = [textOf(article, "h3 bdi"), textOf(article, "[data-of=note]"), textOf(article, "[data-of=reference]")];
    searchable.set(article, [...texts, ...summaries].join("\n").toLowerCase());
  }
  return searchable.get(article);
}

// ------------------------------------------------------------------------------ filters and their address

function fits(article) {
  const wanted = Object.fromEntries(filters.map(filter => [filter.name, filter.value]));
  const claims = JSON.parse(article.dataset.claims);
  const asked = ([verdict, type]) => (!wanted.claim || verdict === wanted.claim) && (!wanted.type || type === wanted.type);
  const words = search.value.trim().toLowerCase();
  return (!wanted.verdict || article.dataset.verdict === wanted.verdict)
    && (!(wanted.claim || wanted.type) || claims.some(asked))
    && (!words || textsOf(article).includes(words));
}

function sort() {
  const by = bar.querySelector("[name=sort]").value;
  const sign = by === "coverage" ? 1 : -1; // the lowest coverage, or else the highest number first
  const sorted = by ? inFile.toSorted((a, b) => sign * (a.dataset[by] - b.dataset[by])) : inFile;
  if (sorted.some((article, index) => article !== articles[index])) sorted[0].parentElement.append(...sorted);
  articles = sorted;
}

function filter() {
  for (const article of articles) article.hidden = !fits(article);
  const count = articles.filter(article => !article.hidden).length;
  const chosen = [search, ...filters].filter(each => each.value.trim()).map(each => each.value.trim());
  document.getElementById("shown").textContent =
    `${count} of ${articles.length} shown` + (chosen.length ? `: ${chosen.join(", ")}` : "");
}

function choose() {
  sort();
  filter();
  const chosen = fields.filter(field => field.value).map(field => [field.name, field.value]);
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  last = start;
}

// Takes the filters from the address; an address of an example (#x3) has none.
function restore() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (!fields.some(field => wanted.has(field.name))) return;
  for (const field of fields) {
    field.value = wanted.get(field.name) ?? "";
    if (field.value === "" && field.matches("select")) field.selectedIndex = 0; // a value that the list does not have
  }
}

// ------------------------------------------------------------------------------ marks and files

// Returns the marks that the reader has given to verdicts, {key of a summary: "right" or "wrong"}. They are kept in the
// browser where it lets a file keep something, else until the page is closed.
const marks = (() => {
  try { return JSON.parse(localStorage.getItem("verdict marks") ?? "{}"); } catch { return {}; }
})();
const sides = [...document.querySelectorAll(".summary")];

function showMarks() {
  for (const side of sides) {
    const mark = marks[side.dataset.key];
    for (const button of side.querySelectorAll("[data-mark]")) button.ariaPressed = String(button.dataset.mark === mark);
    const given = side.querySelector(".given");
    if (given) given.textContent = mark ? `Marked: ${mark}.` : "";
  }
  const count = sides.filter(side => marks[side.dataset.key]).length;
  const button = document.getElementById("save-marks");
  button.textContent = `Save the marks (${count})`;
  button.disabled = !count;
}

// A second press takes the mark back.
function mark(button) {
  const {key} = button.closest(".summary").dataset;
  if (marks[key] === button.dataset.mark) delete marks[key];
  else marks[key] = button.dataset.mark;
  try { localStorage.setItem("verdict marks", JSON.stringify(marks)); } catch { /* kept until the page is closed */ }
  showMarks();
}

// As script_io/csv_files.py writes cells: what a spreadsheet would run as a formula has an apostrophe in front.
const FORMULA = /^(?:'*[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]|'*[\t\r\n])/;
const PLAIN_NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

function cell(value) {
  const text = String(value);
  const guarded = FORMULA.test(text) && !PLAIN_NUMBER.test(text) ? `'${text}` : text;
  return `"${guarded.replaceAll('"', '""')}"`;
}

function save(name, rows) {
  const lines = [Object.keys(rows[0]), ...rows.map(Object.values)].map(cells => cells.map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n"), "\r\n"], {type: "text/csv"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // by then the browser has read it
}

function rowOf(side) {
  const article = side.closest("article");
  const {model, judged, score, coverage, key} = side.dataset;
  return {
    example_id: textOf(article, "h3 bdi"), model, clinical_note: textOf(article, "[data-of=note]"),
    reference_summary: textOf(article, "[data-of=reference]"), generated_summary: textOf(side, "[data-of=summary]"),
    has_hallucination: judged, hallucination_score: score, coverage, mark: marks[key] ?? "",
  };
}

function saveShown() {
  const rows = articles.filter(each => !each.hidden).flatMap(each => [...each.querySelectorAll(".summary")].map(rowOf));
  if (rows.length) save("shown_rows.csv", rows);
}

// In the form of --labels of benchmarks/fact_checker_agreement.py: a verdict that is wrong is turned round.
function saveMarks() {
  save("marked_verdicts.csv", sides.filter(side => marks[side.dataset.key]).map(rowOf).map(row => ({
    id: `${row.example_id} ${row.model}`, clinical_note: row.clinical_note, model_summary: row.generated_summary,
    has_hallucination: row.mark === "right" ? row.has_hallucination : 1 - row.has_hallucination,
    verdict: row.has_hallucination, mark: row.mark,
  })));
}

// ------------------------------------------------------------------------------ keys and links

// Returns the element that had the focus last or, if it is out of view, the example in the upper part of the window.
function place() {
  const {top, bottom} = last.getBoundingClientRect();
  if (bottom > 0 && top < innerHeight) return last;
  return articles.findLast(each => !each.hidden && each.getBoundingClientRect().top < innerHeight / 3) ?? start;
}

function reach(element, block) {
  element.focus({preventScroll: true});
  element.scrollIntoView({block});
}

function move(from, selector, forward) {
  const direction = forward ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING;
  const found = [...document.querySelectorAll(selector)].filter(each => from.compareDocumentPosition(each) & direction);
  const next = forward ? found[0] : found.at(-1);
  if (next) reach(next, next.matches("article") ? "start" : "center");
}

// Closes the list of keys. The dialog gives the focus back to what had it; if nothing had, it is taken out of the list at
// once and not at the next drawing, so that the next key already belongs to the page.
function leave() {
  help.close();
  if (help.contains(document.activeElement)) document.activeElement.blur();
}

const example = forward => move(place().closest("article") ?? start, "article:not([hidden])", forward);
const error = forward => move(place(), "article:not([hidden]) a.error", forward);
const keys = {
  j: ["next example shown", () => example(true)],
  k: ["previous example shown", () => example(false)],
  e: ["next error", () => error(true)],
  E: ["previous error", () => error(false)],
  b: ["back from the note to the marked words", () => origin?.focus()],
  "/": ["search; Escape leaves it", () => search.focus()],
  f: ["go to the filters; Escape leaves them", () => filters[0].focus()],
  c: ["clear search, filters and order", () => { bar.reset(); choose(); start.scrollIntoView(); }],
  "?": ["show this list; Escape closes it", () => { help.showModal(); help.querySelector("button").focus(); }],
};

for (const [key, [effect]] of Object.entries(keys)) {
  const [term, name, text] = ["dt", "kbd", "dd"].map(tag => document.createElement(tag));
  name.textContent = key;
  term.append(name);
  text.textContent = effect;
  help.querySelector("dl").append(term, text);
}

document.addEventListener("focusin", event => {
  if (event.target.closest("article")) last = event.target;
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && event.target.matches("select, [type=search]")) event.target.blur();
  if (event.key === "Escape" && help.open) leave();
  const typing = event.target.closest("select, [type=search], dialog") || event.ctrlKey || event.altKey || event.metaKey;
  if (typing || !singleKeys.checked || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key][1]();
});
document.addEventListener("click", event => {
  const link = event.target.closest("article a");
  if (link) {
    event.preventDefault();
    if (link.matches(".error")) origin = link;
    reach(document.getElementById(link.hash.slice(1)), "nearest"); // no scrolling if it is in view
  }
  const button = event.target.closest("button");
  if (!button) return;
  const {key, mark: verdict} = button.dataset;
  if (key === "Escape") leave();
  else if (key) keys[key][1]();
  else if (verdict) mark(button);
});
document.getElementById("export").addEventListener("click", saveShown);
document.getElementById("save-marks").addEventListener("click", saveMarks);
search.addEventListener("input", choose); // keeps its place on the page: the next letter may follow
bar.addEventListener("change", event => {
  if (!fields.includes(event.target) || event.target === search) return;
  choose();
  start.scrollIntoView();
});
bar.addEventListener("submit", event => event.preventDefault()); // Enter in the search
addEventListener("hashchange", () => { restore(); sort(); filter(); });

// Sets the space that a jump leaves free at the top. Runs before the first key press and again when the window changes.
function measure() {
  const height = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  document.documentElement.style.setProperty("--bar", `${height}px`);
}

bar.hidden = false;
for (const each of document.querySelectorAll(".marks")) each.hidden = false;
restore();
sort();
filter();
showMarks();
measure();
new ResizeObserver(measure).observe(bar);
