"use strict";

// The table of images: sorting, and thumbnails decoded only when they come near the screen.

const collator = new Intl.Collator("en", { numeric: true });

/** What a row is sorted by in one column: a number, a text, or null where it has none. */
function sortKey(row, column, numeric) {
  const { value } = row.cells[column].dataset;
  if (value === "") return null;
  return numeric ? Number(value) : value;
}

/** Rows without a value stay last whichever way the others are turned. */
function compareKeys(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "number" ? a - b : collator.compare(a, b));
}

/** Sort by the column of a header cell; a second time turns the order round. */
function sortBy(header) {
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const numeric = header.classList.contains("number");
  const rows = Array.from(body.rows, (row) => ({ row, key: sortKey(row, column, numeric) }));
  rows.sort((a, b) => compareKeys(a.key, b.key, direction));
  body.append(...rows.map(({ row }) => row));
  for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
}

/** Put the small image of a placeholder in its place. */
function showThumbnail(holder) {
  if (holder.firstChild) return;
  const image = new Image();
  image.alt = "";
  image.src = "data:image/webp;base64," + holder.dataset.thumbnail;
  holder.append(image);
}

function startTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      if (event.target.closest("button")) sortBy(event.target.closest("th"));
    });
  }
}

function startThumbnails() {
  const holders = document.querySelectorAll("[data-thumbnail]");
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        observer.unobserve(entry.target);
        showThumbnail(entry.target);
      }
    },
    { rootMargin: "200px" },
  );
  for (const holder of holders) observer.observe(holder);
  addEventListener("beforeprint", () => holders.forEach(showThumbnail));
}

startTables();
startThumbnails();
