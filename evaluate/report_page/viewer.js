"use strict";

// The viewer: one image, and the outlines of its cells on a canvas above it. What is shown follows
// the page's address, so that it has a link: #image=NAME.

const DASH = { truth: [5, 4], prediction: [] };
const CASING = { colour: "#0009", width: 2 };
const SIDES = ["top", "right", "bottom", "left"];
// Cells smaller than this on the screen have no casing and no dashes, which would hide them.
const SMALL = 12;
const MARGIN = 12;
const ZOOM_STEP = 1.25;
const PAN_STEP = 60;
const MOST_ZOOM = 48;

const viewer = document.getElementById("viewer");
const stage = document.getElementById("stage");
const panel = document.getElementById("panel");
const tooltip = document.getElementById("tooltip");

// The row whose image is wanted, and what is shown of it; null while the viewer is closed, and the
// latter until the data have come.
let wanted = null;
let shown = null;

// Drawing

/** Whether the boxes ticked in the panel let these cells be seen. */
function isVisible({ source, matchStatus }) {
  const isChosen = matchStatus === "plain" || panel.elements[matchStatus].checked;
  return panel.elements[source].checked && isChosen;
}

/** The layers to be drawn; those by uncertainty are made when they are first asked for. */
function visibleLayers() {
  const isShaded = panel.elements.uncertainty.checked && shown.hasUncertainty;
  if (isShaded) shown.shaded ??= layersByUncertainty(shown);
  const [left, top] = toImage(-MARGIN, -MARGIN);
  const [right, bottom] = toImage(stage.clientWidth + MARGIN, stage.clientHeight + MARGIN);
  return (isShaded ? shown.shaded : shown.layers).filter((layer) => {
    const [x0, y0, x1, y1] = layer.box;
    return x1 >= left && x0 <= right && y1 >= top && y0 <= bottom && isVisible(layer);
  });
}

/** A point of the stage in pixels of the image. */
function toImage(x, y) {
  const { view } = shown;
  return [(x - view.x) / view.zoom, (y - view.y) / view.zoom];
}

function draw() {
  if (!shown) return;
  const { canvas, view } = shown;
  const zoom = devicePixelRatio * view.zoom;
  const [x, y] = [devicePixelRatio * view.x, devicePixelRatio * view.y];
  drawPicture({ zoom, x, y });
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(zoom, 0, 0, zoom, x, y);
  context.lineJoin = "round";
  const layers = visibleLayers();
  for (const { fill, path } of layers) {
    if (!fill) continue;
    context.fillStyle = fill;
    context.fill(path, "evenodd");
  }
  for (const layer of layers) strokeLayer(context, layer);
  document.getElementById("viewer-zoom").textContent = `${Math.round(view.zoom * 100)} %`;
}

/** The picture has a canvas of its own, which has the light that is chosen. */
function drawPicture({ zoom, x, y }) {
  const { picture, backdrop, data } = shown;
  const { image, brightness, contrast } = panel.elements;
  backdrop.style.filter = `brightness(${brightness.value}) contrast(${contrast.value})`;
  const context = backdrop.getContext("2d");
  context.fillStyle = "#2b2f33";
  context.fillRect(0, 0, backdrop.width, backdrop.height);
  context.fillStyle = "#222";
  context.fillRect(x, y, zoom * data.width, zoom * data.height);
  if (picture && image.checked) picture.draw(context, { zoom, x, y });
}

/** Lines keep their width on the screen at any zoom; a casing parts them from light images. */
function strokeLayer(context, { source, colour, width, path }) {
  const { zoom } = shown.view;
  const isSmall = zoom * shown.typicalSize < SMALL;
  context.setLineDash(isSmall ? [] : DASH[source].map((length) => length / zoom));
  if (!isSmall) {
    context.strokeStyle = CASING.colour;
    context.lineWidth = (width + CASING.width) / zoom;
    context.stroke(path);
  }
  context.strokeStyle = colour;
  context.lineWidth = (isSmall ? 1 : width) / zoom;
  context.stroke(path);
}

let drawingIsDue = false;

/** Draw before the next frame, once, however often it is asked for. */
function drawSoon() {
  if (drawingIsDue) return;
  drawingIsDue = true;
  requestAnimationFrame(() => {
    drawingIsDue = false;
    draw();
  });
}

// Zoom and pan

/** Show the whole image, in the middle. */
function fit() {
  if (!shown) return;
  const { data, view } = shown;
  const width = stage.clientWidth - 2 * MARGIN;
  const height = stage.clientHeight - 2 * MARGIN;
  view.zoom = Math.max(0.001, Math.min(width / data.width, height / data.height, MOST_ZOOM));
  view.least = view.zoom / 2;
  view.x = (stage.clientWidth - data.width * view.zoom) / 2;
  view.y = (stage.clientHeight - data.height * view.zoom) / 2;
  view.isFit = true;
  drawSoon();
}

/** Zoom so that what is at (x, y) of the stage stays there; its middle unless told. */
function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  if (!shown) return;
  const { view } = shown;
  const zoom = Math.max(view.least, Math.min(MOST_ZOOM, view.zoom * factor));
  view.x = x + ((view.x - x) * zoom) / view.zoom;
  view.y = y + ((view.y - y) * zoom) / view.zoom;
  view.zoom = zoom;
  view.isFit = false;
  drawSoon();
}

function panBy(dx, dy) {
  if (!shown) return;
  shown.view.x += dx;
  shown.view.y += dy;
  shown.view.isFit = false;
  drawSoon();
}

/** Fill the stage with the canvas, in the pixels of the screen. */
function resize() {
  if (!shown) return;
  for (const canvas of [shown.backdrop, shown.canvas]) {
    canvas.width = Math.round(stage.clientWidth * devicePixelRatio);
    canvas.height = Math.round(stage.clientHeight * devicePixelRatio);
  }
  if (shown.view.isFit) fit();
  else draw();
}

// Pointing

/** The smallest visible cell of each source at a point of the image: [prediction, truth]. */
function cellsAt(x, y) {
  const under = shown.cells.filter((cell) => contains(cell, x, y) && isVisible(cell));
  const size = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  under.sort((a, b) => size(a) - size(b));
  return ["prediction", "truth"].map((source) => under.find((cell) => cell.source === source));
}

function contains(cell, x, y) {
  const [left, top, right, bottom] = cell.box;
  if (x < left || x > right || y < top || y > bottom) return false;
  if (!cell.path) {
    cell.path = new Path2D();
    addRings(cell.path, cell.rings);
  }
  return shown.probe.isPointInPath(cell.path, x, y, "evenodd");
}

const STATUS_TEXTS = {
  matched: "matched",
  false_positive: "false positive",
  missed: "missed",
  unscored: "not scored: at the frame",
};

/** The lines of the tooltip about a cell. */
function describe(cell) {
  const name = cell.source === "truth" ? "True cell" : "Predicted cell";
  const status = STATUS_TEXTS[cell.matchStatus];
  const lines = [`${name} ${cell.label}${status ? ": " + status : ""}`];
  const numbers = [`${cell.area} px`];
  const iou = cell.matchStatus === "matched" ? "IoU" : "best IoU";
  if (cell.iou !== null) numbers.push(`${iou} ${cell.iou.toFixed(2)}`);
  if (cell.score !== null) numbers.push(`score ${cell.score.toFixed(2)}`);
  lines.push(numbers.join(" · "));
  if (cell.uncertainties) {
    const sides = cell.uncertainties.map((value, i) => `${SIDES[i]} ${value.toFixed(2)}`);
    lines.push("uncertainty: " + sides.join(", "));
  }
  return lines;
}

/** Show what is at a point of the stage. */
function pointAt(x, y) {
  const found = cellsAt(...toImage(x, y)).filter(Boolean);
  tooltip.replaceChildren(...found.map((cell) => block(describe(cell))));
  tooltip.hidden = !found.length;
  const right = stage.clientWidth - tooltip.offsetWidth - 4;
  const below = y + 16 + tooltip.offsetHeight < stage.clientHeight;
  tooltip.style.left = Math.max(4, Math.min(x + 14, right)) + "px";
  tooltip.style.top = (below ? y + 14 : Math.max(4, y - 10 - tooltip.offsetHeight)) + "px";
}

function block(lines) {
  const element = document.createElement("p");
  element.append(...lines.flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])));
  return element;
}

// Opening an image

/** The rows with something to look at, as the table is searched and sorted. */
function choices() {
  const all = found.filter(hasFiles);
  return all.includes(wanted) || !wanted ? all : rows.filter(hasFiles);
}

/** Open the image that the page's address names, or close the viewer where it names none. */
function followAddress() {
  const name = addressedName();
  const row = rows.find((one) => hasFiles(one) && nameOf(one) === name);
  if (row && row !== wanted) openImage(row);
  if (!row && viewer.open) viewer.close();
}

function addressedName() {
  const [, name] = location.hash.match(/^#image=(.*)$/) ?? [];
  try {
    return name && decodeURIComponent(name);
  } catch {
    return undefined; // it is no link of ours
  }
}

/** Ask for the data of a row's image; they come to `receive`, by a script, since browsers let a
    page load no other data from disk. */
function openImage(row) {
  closeImage();
  wanted = row;
  fillHeader(row);
  if (!viewer.open) viewer.showModal();
  viewer.focus(); // keys count while the data are awaited
  const script = document.createElement("script");
  script.src = fileOf(row, "cells.js");
  script.addEventListener("error", () => {
    if (wanted === row) tell(`${script.src} is missing: the folder belongs beside this page`);
  });
  script.addEventListener("load", () => script.remove());
  document.head.append(script);
}

/** Show the image of this number, whose data have come, unless another is wanted by now. */
function receive(number, data) {
  if (wanted?.image !== number || shown) return;
  const cells = ["truth", "prediction"].flatMap((source) =>
    data[source] ? decodeCells(source, data[source]) : [],
  );
  const [backdrop, canvas] = [makeCanvas(), makeCanvas()];
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The image with the outlines of its cells");
  stage.prepend(backdrop, canvas);
  const size = [data.width, data.height];
  const picture = data.hasPicture ? new Picture(wanted, size, data.step, drawSoon) : null;
  shown = { data, cells, picture, view: {}, backdrop, canvas };
  shown.layers = layersByMatchStatus(shown);
  shown.hasUncertainty = Boolean(data.prediction?.uncertainties);
  shown.typicalSize = median(cells.map(({ box }) => box[2] - box[0] + box[3] - box[1])) / 2;
  shown.probe = document.createElement("canvas").getContext("2d");
  fillPanel();
  tell([data.problem, reduction(data)].filter(Boolean).join("; "));
  shown.view.isFit = true;
  resize();
  canvas.focus();
}

const makeCanvas = () => document.createElement("canvas");

/** What there is to say of a picture that has not all pixels. */
function reduction({ hasPicture, step }) {
  return hasPicture && step > 1 ? `shown at 1 : ${step}, being larger than 10,000 × 10,000` : "";
}

function tell(text) {
  document.getElementById("viewer-message").textContent = text;
}

function median(values) {
  return values.length ? values.sort((a, b) => a - b)[values.length >> 1] : 0;
}

function fillHeader(row) {
  const all = choices();
  const size = row.values[columns.findIndex(({ kind }) => kind === "size")];
  document.getElementById("viewer-name").textContent = nameOf(row);
  document.getElementById("viewer-place").textContent =
    `${all.indexOf(row) + 1} of ${all.length} · ${size.join(" × ")} pixels`;
  tell("");
}

/** Offer what the image has: how many cells of each match status, uncertainties, scores. */
function fillPanel() {
  const { data, cells } = shown;
  const all = (key, value) => cells.filter((cell) => cell[key] === value);
  const isCompared = cells.some(({ matchStatus }) => matchStatus !== "plain");
  for (const source of ["prediction", "truth"]) {
    setChoice(source, Boolean(data[source]), all("source", source).length);
  }
  for (const status of ["false_positive", "missed", "unscored"]) {
    setChoice(status, isCompared, all("matchStatus", status).length);
  }
  // Each match is two cells, a true and a predicted one.
  setChoice("matched", isCompared, all("matchStatus", "matched").length / 2);
  setChoice("image", data.hasPicture);
  panel.elements.brightness.closest("fieldset").hidden = !data.hasPicture;
  setChoice("uncertainty", shown.hasUncertainty);
  panel.elements.matched.closest("fieldset").hidden = !isCompared;
  panel.elements.uncertainty.closest("fieldset").hidden = !shown.hasUncertainty;
  document.getElementById("viewer-numbers").replaceChildren(...data.numbers.flatMap(term));
}

function setChoice(name, isThere, count) {
  const label = panel.elements[name].closest("label");
  label.hidden = !isThere;
  const number = label.querySelector("b");
  if (number) number.textContent = count;
}

function term([name, value]) {
  const [title, text] = [document.createElement("dt"), document.createElement("dd")];
  title.textContent = name;
  text.textContent = value;
  return [title, text];
}

/** Open the image `step` places further in the table, round its ends. */
function openNeighbour(step) {
  const all = choices();
  const row = all[(all.indexOf(wanted) + step + all.length) % all.length];
  openImage(row);
  location.replace(linkTo(row));
}

/** Drop the canvases and all that belongs to the image shown. */
function closeImage() {
  shown?.canvas.remove();
  shown?.backdrop.remove();
  tooltip.hidden = true;
  shown = wanted = null;
}

/** Give the picture back the light it has in its file. */
function resetLight() {
  for (const name of ["brightness", "contrast"]) panel.elements[name].value = 1;
  drawSoon();
}

// Events

const COMMANDS = {
  previous: () => openNeighbour(-1),
  next: () => openNeighbour(1),
  in: () => zoomBy(ZOOM_STEP),
  out: () => zoomBy(1 / ZOOM_STEP),
  fit,
  plain: resetLight,
  close: () => viewer.close(),
};
const KEYS = {
  "+": COMMANDS.in,
  "=": COMMANDS.in,
  "-": COMMANDS.out,
  0: fit,
  n: COMMANDS.next,
  p: COMMANDS.previous,
  ArrowLeft: () => panBy(PAN_STEP, 0),
  ArrowRight: () => panBy(-PAN_STEP, 0),
  ArrowUp: () => panBy(0, PAN_STEP),
  ArrowDown: () => panBy(0, -PAN_STEP),
};

function startPointer() {
  let from = null;
  const place = (event) => {
    const { left, top } = stage.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary) return;
    from = place(event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    const to = place(event);
    if (from) {
      panBy(to[0] - from[0], to[1] - from[1]);
      from = to;
    } else if (shown) pointAt(...to);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => (from = null));
  }
  stage.addEventListener("pointerleave", () => (tooltip.hidden = true));
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
      zoomBy(Math.exp(-pixels / 400), ...place(event));
    },
    { passive: false },
  );
}

function startKeys() {
  viewer.addEventListener("keydown", (event) => {
    const command = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const isSliding = event.target.type === "range" && event.key.startsWith("Arrow");
    if (!command || isSliding || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    command();
  });
}

function startViewer() {
  viewer.addEventListener("click", (event) => {
    const command = event.target.closest("button[data-command]");
    if (command) COMMANDS[command.dataset.command]();
  });
  panel.addEventListener("input", drawSoon);
  panel.addEventListener("submit", (event) => event.preventDefault());
  viewer.addEventListener("close", () => {
    if (viewer.open || !wanted) return; // the event comes late: another image is open or asked for
    closeImage();
    history.replaceState(null, "", location.pathname + location.search);
  });
  addEventListener("hashchange", followAddress);
  new ResizeObserver(resize).observe(stage);
  const bar = document.getElementById("scale-bar");
  bar.style.backgroundImage = `linear-gradient(to right, ${CERTAIN_TO_UNCERTAIN.join()})`;
  document.getElementById("scale-end").textContent = `${settings.mostUncertainty} uncertain`;
  startPointer();
  startKeys();
  followAddress();
}

startViewer();
