"""Outlines as QuPath and ImageJ save them, back to a label image."""

import gzip
import json
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from skimage.measure import points_in_poly

from app import extras
from app.exports.geojson import AREA
from app.exports.polygons import CORNER
from app.images import LabelError
from app.outlines import fill, on_grid, star_shaped

LEAST = 3  # points of an outline
# Outlines are drawn on a grid of so many lines per pixel, on which whole and half pixels are lines.
# Prediction's own are drawn with a pen that takes what is within a third of a pixel: they run
# through the middles of border pixels. Of those that a user drew, pixels count whose middles lie
# within.
FINENESS, PEN, NO_PEN = 10, 7, 1
COARSE_FROM = 500  # pixels: larger outlines have a coarser grid, and no pen
COARSE = 2  # lines per pixel, then
REGION = 4  # outlines of which the middles lie within another: that is a region, and no cell
MOST = 0.95  # of the image: an outline of more than that is none either


class Outline(NamedTuple):
    """The outline of an object, (m, 2) x y in pixels from the image's corner, and whether it is as
    prediction draws them."""

    points: np.ndarray
    is_ours: bool


def read_outlines(path: Path, shape: Tuple[int, int]) -> Tuple[np.ndarray, List[str]]:
    """The label image (H, W), int32, of the outlines in a GeoJSON file or an ImageJ ROI zip, and
    sentences on those that are not in it as they are.

    shape: (height, width) of the image, from whose top-left corner they count. Labels are 1, 2 ...
    without gaps, those of larger outlines first, which lie below the smaller ones. What has no area
    (points, lines) counts not, nor does a region drawn around cells; of a cell in several pieces
    the largest counts, and one that is outlined twice is one. Raises LabelError, extras.Unusable.
    """
    try:
        found = list(rois(path) if path.name.lower().endswith(".zip") else geometries(path))
        found = [one for one in found if len(one.points) >= LEAST]
        if not all(np.isfinite(one.points).all() for one in found):
            raise ValueError("points that are no numbers")
    except extras.Unusable:
        raise
    except Exception as error:  # whatever the libraries raise
        raise LabelError(f"its outlines cannot be read ({error})") from error
    cells = without_regions(found, shape)
    labels, joined, hidden = drawn(cells, shape)
    said = (
        (len(found) - len(cells), "around others or the whole image left out"),
        (joined, "of cells outlined twice joined"),
        (hidden, "without a pixel of its own left out"),
    )
    return labels, [f"{count} outline{'s' * (count > 1)} {what}" for count, what in said if count]


def without_regions(outlines: Sequence[Outline], shape: Tuple[int, int]) -> List[Outline]:
    """The Outlines without those around many others, or around (nearly) all of the image."""
    if not outlines:
        return []
    middles = np.array([one.points.mean(axis=0) for one in outlines])
    kept = []
    for one in outlines:
        low, high = one.points.min(axis=0), one.points.max(axis=0)
        near = middles[((middles > low) & (middles < high)).all(axis=1)]
        within = len(near) > REGION and points_in_poly(near, one.points).sum()
        if within <= REGION and extent(one.points) <= MOST * shape[0] * shape[1]:
            kept.append(one)
    return kept


def drawn(outlines: Sequence[Outline], shape: Tuple[int, int]) -> Tuple[np.ndarray, int, int]:
    """The labels of `read_outlines`, how many Outlines were joined with others, and how many have
    no pixel of their own."""
    labels = np.zeros(shape, np.int32)
    areas = np.zeros(len(outlines) + 1, int)
    ordered = sorted(outlines, key=lambda one: extent(one.points), reverse=True)
    joined = 0
    for label, (points, is_ours) in enumerate(ordered, 1):
        contour = (points - CORNER).astype(np.float32)
        low = np.clip(np.floor(contour.min(axis=0)).astype(int) - 1, 0, shape[::-1])
        high = np.clip(np.ceil(contour.max(axis=0)).astype(int) + 2, 0, shape[::-1])
        size = tuple((high - low)[::-1].tolist())
        fine = (FINENESS, PEN if is_ours else NO_PEN)
        fineness, pen = fine if max(size) <= COARSE_FROM else (COARSE, NO_PEN)
        grid, crosses = on_grid(contour, low, fineness), not star_shaped(contour[None])[0]
        inside = fill(grid, size, crosses, fineness, pen) > 0
        there = labels[low[1] : high[1], low[0] : high[0]]
        twin = twin_of(there[inside], areas)
        joined += twin > 0
        there[inside] = twin or label
        areas[twin or label] = max(areas[twin], inside.sum())
    values, numbered = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    hidden = len(outlines) - joined - (len(values) - 1)
    return numbered[:-1].reshape(shape).astype(np.int32), joined, hidden


def twin_of(below: np.ndarray, areas: np.ndarray) -> int:
    """The label of the same cell, outlined before, that an outline lies upon; 0: there is none.

    below: the labels (n,) of the pixels that it covers. areas: pixels of each label. It is the same
    where most of this outline lies in it, and covers more than half of it.
    """
    counts = np.bincount(below, minlength=2)
    counts[0] = 0
    label = int(counts.argmax())
    return label if counts[label] > max(len(below), areas[label]) / 2 else 0


def geometries(path: Path) -> Iterator[Outline]:
    """The outer ring of each object in a GeoJSON file."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(str(path), "rb") as file:
        content = json.load(file)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    for feature in features:
        geometry, known = feature.get("geometry", feature), feature.get("properties") or {}
        if geometry["type"] == "Polygon":
            ring = geometry["coordinates"][0]
        elif geometry["type"] == "MultiPolygon":
            ring = max((rings[0] for rings in geometry["coordinates"]), key=extent)
        else:
            continue
        yield Outline(as_points(ring), AREA in (known.get("measurements") or {}))


def as_points(ring: Sequence[Sequence[float]]) -> np.ndarray:
    """A ring of points x, y as an array (m, 2)."""
    return np.asarray(ring, float).reshape(len(ring), 2)


def extent(ring: Sequence[Sequence[float]]) -> float:
    """The area that a ring of points x, y encloses."""
    x, y = np.asarray(ring, float).T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def rois(path: Path) -> Iterator[Outline]:
    """The outline of each region with an area in an ImageJ ROI zip."""
    with extras.imported("reading ROIs", "roi"):
        from roifile import ROI_TYPE, roiread
    areas = {ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL}
    for roi in np.atleast_1d(roiread(str(path))):
        if roi.roitype in areas:
            pieces = roi.coordinates(multi=True)
            yield Outline(as_points(max(pieces, key=extent)), roi.name.isdigit())
