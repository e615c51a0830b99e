"use strict";
const bar = document.getElementById("bar");
const help = document.getElementById("help");
const singleKeys = document.getElementById("single-keys");
const articles = [...document.querySelectorAll("article")];
const filters = [...bar.querySelectorAll("select")];
const start = document.getElementById("examples"); // the heading above the examples
let last = start; // the element of an example that had the focus last
let origin = null; // the marked words whose link was followed last

function fits(article) {
  const wanted = Object.fromEntries(filters.map(filter => [filter.name, filter.value]));
  const claims = JSON.parse(article.dataset.claims);
  const asked = ([verdict, type]) => (!wanted.claim || verdict === wanted.claim) && (!wanted.type || type === wanted.type);
  return (!wanted.verdict || article.dataset.verdict === wanted.verdict)
    && (!(wanted.claim || wanted.type) || claims.some(asked));
}

function filter() {
  for (const article of articles) article.hidden = !fits(article);
  const count = articles.filter(article => !article.hidden).length;
  const chosen = filters.filter(each => each.value).map(each => each.value);
  document.getElementById("shown").textContent =
    `${count} of ${articles.length} shown` + (chosen.length ? `: ${chosen.join(", ")}` : "");
}

function choose() {
  filter();
  last = start;
  start.scrollIntoView();
}

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
  f: ["go to the filters; Escape leaves them", () => filters[0].focus()],
  c: ["clear the filters", () => { bar.reset(); choose(); }],
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
  if (event.key === "Escape" && event.target.matches("select")) event.target.blur();
  if (event.key === "Escape" && help.open) leave();
  const typing = event.target.closest("select, dialog") || event.ctrlKey || event.altKey || event.metaKey;
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
  const key = event.target.closest("button")?.dataset.key;
  if (key === "Escape") leave();
  else if (key) keys[key][1]();
});
bar.addEventListener("change", choose);

// Sets the space that a jump leaves free at the top. Runs before the first key press and again when the window changes.
function measure() {
  const height = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  document.documentElement.style.setProperty("--bar", `${height}px`);
}

bar.hidden = false;
filter();
measure();
new ResizeObserver(measure).observe(bar);
