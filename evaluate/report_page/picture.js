"use strict";

// The picture of an image: tiles at several sizes, each loaded when it is to be seen.

class Picture {
  /** Of the files of a row; size: of the image in pixels, step: so many of which each pixel of the
      picture has, across and down. whenLoaded is called for each tile that has come. */
  constructor(row, size, step, whenLoaded) {
    this.row = row;
    this.size = size;
    this.step = step;
    this.whenLoaded = whenLoaded;
    this.tiles = new Map();
    const longest = Math.ceil(Math.max(...size) / step);
    this.levels = 1 + Math.max(0, Math.ceil(Math.log2(longest / settings.tile)));
  }

  /** Draw what of the picture lies in the canvas, in its own pixels: a pixel of the image is `zoom`
      of them, and that of the top-left corner begins at x, y. */
  draw(context, { zoom, x, y }) {
    const sharpest = Math.floor(Math.log2(1 / (zoom * this.step)));
    const level = Math.max(0, Math.min(this.levels - 1, sharpest));
    // A pixel of a few pixels of the screen is to be seen as one.
    context.imageSmoothingEnabled = zoom * this.step < 3;
    for (let each = this.levels - 1; each >= level; each--) {
      const isAskedFor = each === level || each === this.levels - 1;
      this.drawLevel(context, { zoom, x, y }, each, isAskedFor);
    }
  }

  drawLevel(context, { zoom, x, y }, level, isAskedFor) {
    const pixel = zoom * this.step * 2 ** level; // of this level, on the canvas
    const side = pixel * settings.tile;
    const { width, height } = context.canvas;
    const last = this.size.map((length) => Math.ceil((length * zoom) / side) - 1);
    const range = (at, length, most) => [
      Math.max(0, Math.floor(-at / side)),
      Math.min(most, Math.floor((length - at) / side)),
    ];
    const [left, right] = range(x, width, last[0]);
    const [top, bottom] = range(y, height, last[1]);
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const tile = this.tile(`${level}_${column}_${row}`, isAskedFor);
        if (!tile) continue;
        // Whole pixels of the canvas, so that no seam is seen between tiles.
        const [x0, y0] = [Math.round(x + column * side), Math.round(y + row * side)];
        const x1 = Math.round(x + column * side + tile.naturalWidth * pixel);
        const y1 = Math.round(y + row * side + tile.naturalHeight * pixel);
        context.drawImage(tile, x0, y0, x1 - x0, y1 - y0);
      }
    }
  }

  /** The tile of this name if it is there; asked for, it will be. */
  tile(name, isAskedFor) {
    const known = this.tiles.get(name);
    if (known) return known.naturalWidth ? known : null;
    if (isAskedFor) {
      const image = new Image();
      image.addEventListener("load", this.whenLoaded);
      image.src = fileOf(this.row, `${name}.webp`);
      this.tiles.set(name, image);
    }
    return null;
  }
}
