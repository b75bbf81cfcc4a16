"use strict";

// The table of images: found, sorted, and drawn a page at a time, so that it may be of any length.

const settings = JSON.parse(document.getElementById("settings").textContent);
const { columns, rows } = JSON.parse(document.getElementById("table").textContent);

const PAGE = 100;
const NAME = 0; // the column that is the image's name
const STATES = ["problem", "remark", null]; // in the order of sorting

const collator = new Intl.Collator("en", { numeric: true });
const tools = document.getElementById("tools");
const head = document.querySelector("#images thead");
const body = document.querySelector("#images tbody");

// The rows that were searched for, as they are sorted, and the first of those on this page.
let found = rows;
let first = 0;

const nameOf = (row) => row.values[NAME];
const linkTo = (row) => "#image=" + encodeURIComponent(nameOf(row));
const fileOf = (row, name) => `${settings.files}/${row.image}/${name}`;
const hasFiles = (row) => row.image !== null;

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

// Sorting and searching

/** What a row is sorted by in a column: a number, a text, or null where it has none. */
function sortKey(row, index) {
  const value = row.values[index];
  if (columns[index].kind === "state") return STATES.indexOf(value);
  return columns[index].kind === "size" && value ? value[0] * value[1] : value;
}

/** Rows without a value stay last whichever way the others are turned. */
function compareKeys(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "number" ? a - b : collator.compare(a, b));
}

/** Sort by the column of a header cell; a second time turns the order round. */
function sortBy(header) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const keys = new Map(rows.map((row) => [row, sortKey(row, header.cellIndex)]));
  rows.sort((a, b) => compareKeys(keys.get(a), keys.get(b), direction));
  for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  search();
}

/** Show the rows that have all words of the query, in a name, a group or what is said of them. */
function search() {
  const words = tools.elements.query.value.toLowerCase().split(/\s+/).filter(Boolean);
  found = rows.filter((row) => {
    const texts = [...row.values, ...row.problems, ...row.remarks];
    const text = texts.filter((value) => typeof value === "string").join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  showPage(0);
}

// Drawing

/** Draw the page that begins with this row of those found. */
function showPage(start) {
  first = start;
  const last = Math.min(first + PAGE, found.length);
  body.replaceChildren(...found.slice(first, last).map(rowElement));
  const count = (number) => number.toLocaleString("en");
  const place = last - first < found.length ? `${count(first + 1)}–${count(last)} of ` : "";
  const all = found.length < rows.length ? ` found of ${count(rows.length)}` : "";
  const images = rows.length === 1 ? "image" : "images";
  document.getElementById("place").textContent = `${place}${count(found.length)}${all} ${images}`;
  for (const button of tools.querySelectorAll("[data-page]")) {
    button.hidden = found.length <= PAGE;
    button.disabled = Number(button.dataset.page) < 0 ? first === 0 : last === found.length;
  }
}

function rowElement(row) {
  const cells = row.values.map((value, i) => make("td", columns[i].kind, textOf(value, columns[i])));
  cells[NAME].replaceChildren(imageElement(row));
  for (const kind of ["problem", "remark"]) {
    cells[NAME].append(...row[kind + "s"].map((text) => make("p", kind, text)));
  }
  return make("tr", hasFiles(row) ? "shown" : "", ...cells);
}

/** The value of a cell as people read it; a dash for a number that is not known. */
function textOf(value, { kind, digits }) {
  if (kind === "state" || kind === "text") return value ?? "";
  if (value === null) return "–";
  if (kind === "size") return value.join(" × ");
  return digits ? value.toFixed(digits) : value.toLocaleString("en");
}

/** The thumbnail and the name of an image, as a link that opens it in the viewer. */
function imageElement(row) {
  const thumbnail = make("span", "thumbnail");
  const name = make("span", "name", nameOf(row));
  name.title = nameOf(row);
  if (!hasFiles(row)) return make("span", "closed", thumbnail, name);
  const image = new Image();
  image.alt = "";
  image.src = fileOf(row, "thumbnail.webp");
  thumbnail.append(image);
  const link = make("a", "open", thumbnail, name);
  link.href = linkTo(row);
  return link;
}

// Events

head.addEventListener("click", (event) => {
  if (event.target.closest("button")) sortBy(event.target.closest("th"));
});
body.addEventListener("click", (event) => {
  const link = event.target.closest("tr.shown")?.querySelector("a.open");
  const isSelecting = String(getSelection()) !== "";
  if (link && !event.target.closest("a") && !isSelecting) link.click();
});
tools.addEventListener("input", search);
tools.addEventListener("submit", (event) => event.preventDefault());
tools.addEventListener("click", (event) => {
  const { page } = event.target.closest("button")?.dataset ?? {};
  if (!page) return;
  showPage(first + Number(page) * PAGE);
  document.querySelector("#images .rows").scrollTop = 0;
});
search();
