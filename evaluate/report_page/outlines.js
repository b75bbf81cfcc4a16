"use strict";

// The cells of an image as paths to draw: outlines decoded, and coloured by what they are or by
// uncertainty. Coordinates are pixels of the label image; (0, 0) is the top-left corner of it.

const MATCH_STATUSES = ["matched", "false_positive", "missed", "unscored", "plain"];
// Okabe and Ito's colours, in the order of drawing. What colour says, line and filling say too:
// truth is dashed, and cells that are wrong are thick and filled.
const STYLES = {
  unscored: { colour: "#b4b4b4", width: 1 },
  plain: { colour: "#56b4e9", width: 1.5 },
  matched: { colour: "#56b4e9", width: 1.5 },
  missed: { colour: "#f0e442", width: 2.5, fill: "#f0e4422c" },
  false_positive: { colour: "#d55e00", width: 2.5, fill: "#d55e0038" },
};
const PLAIN_TRUTH = { colour: "#e8e8e8", width: 1 };
// Viridis without its darkest third, which would not be seen on dark images.
const CERTAIN_TO_UNCERTAIN = ["#35608d", "#21918c", "#2fb47c", "#8bd646", "#fde725"];
const SHADES = 16;
const SHADED_WIDTH = 2.5;
const CELLS_PER_TILE = 250;

// Outlines

/** A ring of an outline, [x, y, right, down, right, down, …] as steps, as points [[x, y], …]. */
function decodeRing(ring) {
  const at = [ring[0], ring[1]];
  return ring.slice(2).map((step, i) => {
    const point = [...at];
    at[i % 2] += step;
    return point;
  });
}

/** The cells of the truth or of the prediction of an image, as objects. */
function decodeCells(source, columns) {
  return columns.labels.map((label, i) => {
    const rings = columns.outlines[i].map(decodeRing);
    const cell = { source, label, rings, box: boxOf(rings), path: null };
    cell.matchStatus = columns.match_status ? MATCH_STATUSES[columns.match_status[i]] : "plain";
    const value = (name) => (columns[name] ? columns[name][i] : null);
    cell.area = value("areas");
    cell.iou = value("ious");
    cell.score = value("scores");
    cell.uncertainties = value("uncertainties");
    return cell;
  });
}

/** left, top, right, bottom of all points. */
function boxOf(rings) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const ring of rings) for (const [x, y] of ring) extend(box, x, y, x, y);
  return box;
}

function extend(box, left, top, right, bottom) {
  box[0] = Math.min(box[0], left);
  box[1] = Math.min(box[1], top);
  box[2] = Math.max(box[2], right);
  box[3] = Math.max(box[3], bottom);
}

/** Add the rings of a cell to a path. */
function addRings(path, rings) {
  for (const ring of rings) {
    ring.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
}

/** Paths of many cells: one for all that look the same and lie in the same part of the image, so
    that what is not on the screen need not be drawn. */
class Layers {
  constructor(data, cells) {
    this.parts = Math.ceil(Math.sqrt(cells.length / CELLS_PER_TILE));
    this.size = [data.width, data.height];
    this.layers = new Map();
  }

  /** The path to which a cell of this style (colour, width, fill) is added. */
  pathFor(cell, style) {
    const [left, top, right, bottom] = cell.box;
    const middle = [(left + right) / 2, (top + bottom) / 2];
    const place = middle.map((at, i) => Math.floor((at / this.size[i]) * this.parts));
    const key = [cell.source, cell.matchStatus, style.colour, ...place].join();
    if (!this.layers.has(key)) {
      const { source, matchStatus } = cell;
      const box = boxOf([]);
      this.layers.set(key, { source, matchStatus, ...style, box, path: new Path2D() });
    }
    const layer = this.layers.get(key);
    extend(layer.box, ...cell.box);
    return layer.path;
  }

  /** All layers in the order of drawing: what is wrong above the rest, prediction above truth. */
  inOrder() {
    const order = Object.keys(STYLES);
    const rank = (layer) =>
      2 * order.indexOf(layer.matchStatus) + (layer.source === "prediction");
    return [...this.layers.values()].sort((a, b) => rank(a) - rank(b));
  }
}

function layersByMatchStatus({ data, cells }) {
  const layers = new Layers(data, cells);
  for (const cell of cells) addRings(layers.pathFor(cell, STYLES[cell.matchStatus]), cell.rings);
  return layers.inOrder();
}

// Uncertainty

/** The side of its box that a point of an outline belongs to: 0 top, 1 right, 2 bottom, 3 left.
    By its angle from the centre of the box, stretched to a square: the corners part the sides. */
function sideOf(x, y, [left, top, right, bottom]) {
  const dx = (2 * x - left - right) / Math.max(1, right - left);
  const dy = (2 * y - top - bottom) / Math.max(1, bottom - top);
  if (Math.abs(dx) > Math.abs(dy)) return dx > 0 ? 1 : 3;
  return dy > 0 ? 2 : 0;
}

/** Which of the SHADES an uncertainty has. */
function shadeOf(uncertainty) {
  const share = uncertainty / settings.mostUncertainty;
  return Math.max(0, Math.min(SHADES - 1, Math.floor(share * SHADES)));
}

/** The colour of a shade, between the two nearest of CERTAIN_TO_UNCERTAIN. */
function colourOf(shade) {
  const place = (shade / (SHADES - 1)) * (CERTAIN_TO_UNCERTAIN.length - 1);
  const i = Math.min(Math.floor(place), CERTAIN_TO_UNCERTAIN.length - 2);
  const [from, to] = [i, i + 1].map((k) => parseInt(CERTAIN_TO_UNCERTAIN[k].slice(1), 16));
  const mix = (shift) => {
    const [a, b] = [(from >> shift) & 255, (to >> shift) & 255];
    return Math.round(a + (b - a) * (place - i));
  };
  return `rgb(${mix(16)}, ${mix(8)}, ${mix(0)})`;
}

const COLOURS = Array.from({ length: SHADES }, (_, shade) => colourOf(shade));

/** The points that part the line from a to b into pieces of at most `longest`, b left out. */
function piecesOf([ax, ay], [bx, by], longest) {
  const count = Math.max(1, Math.ceil(Math.hypot(bx - ax, by - ay) / longest));
  const along = (i) => [ax + ((bx - ax) * i) / count, ay + ((by - ay) * i) / count];
  return Array.from({ length: count }, (_, i) => along(i));
}

/** The layers of an image with uncertainty: each piece of a predicted outline in the shade of its
    side, and the truth in a colour that is none of the shades. */
function layersByUncertainty({ data, cells }) {
  const layers = new Layers(data, cells);
  for (const cell of cells) {
    if (cell.source === "truth") addRings(layers.pathFor(cell, PLAIN_TRUTH), cell.rings);
    else for (const ring of cell.rings) addShaded(layers, cell, ring);
  }
  return layers.inOrder();
}

/** Add a ring in pieces that are short against the cell, each in its shade. */
function addShaded(layers, cell, ring) {
  const [left, top, right, bottom] = cell.box;
  const longest = Math.max(2, Math.max(right - left, bottom - top) / 12);
  const points = ring.flatMap((point, i) => piecesOf(point, ring[(i + 1) % ring.length], longest));
  let before = null;
  points.forEach(([x, y], i) => {
    const [nextX, nextY] = points[(i + 1) % points.length];
    const side = sideOf((x + nextX) / 2, (y + nextY) / 2, cell.box);
    const shade = shadeOf(cell.uncertainties[side]);
    const path = layers.pathFor(cell, { colour: COLOURS[shade], width: SHADED_WIDTH });
    if (path !== before) path.moveTo(x, y);
    path.lineTo(nextX, nextY);
    before = path;
  });
}
