"""Outlines as QuPath and ImageJ save them, back to a label image."""

import gzip
import json
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from app import extras
from app.exports.polygons import CORNER
from app.images import LabelError
from app.outlines import fill, on_grid, star_shaped

LEAST = 3  # points of an outline
# Outlines are drawn on a grid of so many lines per pixel, on which whole and half pixels are lines,
# with a pen that takes what is within a third of a pixel: prediction's outlines run through the
# middles of border pixels, as a smooth curve does. Those of whole pixels lie half a pixel away.
FINENESS, PEN = 10, 7
COARSE_FROM = 500  # pixels: of larger outlines pixels count whose middles lie within
COARSE = 2  # lines per pixel, then


def read_outlines(path: Path, shape: Tuple[int, int]) -> Tuple[np.ndarray, int]:
    """The label image (H, W), int32, of the outlines in a GeoJSON file or an ImageJ ROI zip, and
    how many of these have no pixel of their own.

    shape: (height, width) of the image, from whose top-left corner they count. Labels are 1, 2 ...
    without gaps, those of larger outlines first, which lie below the smaller ones. What has no area
    (points, lines) counts not; of a cell in several pieces the largest counts. Raises LabelError,
    extras.Unusable.
    """
    try:
        found = rois(path) if path.name.lower().endswith(".zip") else geometries(path)
        polygons = [np.asarray(polygon, float).reshape(len(polygon), 2) for polygon in found]
        polygons = [polygon for polygon in polygons if len(polygon) >= LEAST]
        if not all(np.isfinite(polygon).all() for polygon in polygons):
            raise ValueError("points that are no numbers")
    except extras.Unusable:
        raise
    except Exception as error:  # whatever the libraries raise
        raise LabelError(f"its outlines cannot be read ({error})") from error
    return drawn(polygons, shape)


def drawn(polygons: Sequence[np.ndarray], shape: Tuple[int, int]) -> Tuple[np.ndarray, int]:
    """What `read_outlines` returns, of polygons (m, 2) in pixels from the image's corner."""
    labels = np.zeros(shape, np.int32)
    for label, polygon in enumerate(sorted(polygons, key=extent, reverse=True), 1):
        contour = (polygon - CORNER).astype(np.float32)
        low = np.clip(np.floor(contour.min(axis=0)).astype(int) - 1, 0, shape[::-1])
        high = np.clip(np.ceil(contour.max(axis=0)).astype(int) + 2, 0, shape[::-1])
        size = tuple((high - low)[::-1].tolist())
        fineness, pen = (FINENESS, PEN) if max(size) <= COARSE_FROM else (COARSE, 1)
        points, crosses = on_grid(contour, low, fineness), not star_shaped(contour[None])[0]
        inside = fill(points, size, crosses, fineness, pen) > 0
        labels[low[1] : high[1], low[0] : high[0]][inside] = label
    values, labels = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    return labels[:-1].reshape(shape).astype(np.int32), len(polygons) - (len(values) - 1)


def geometries(path: Path) -> Iterator[List[Any]]:
    """The outer ring of each object in a GeoJSON file, as lists [x, y]."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(str(path), "rb") as file:
        content = json.load(file)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    for feature in features:
        geometry = feature.get("geometry", feature)
        if geometry["type"] == "Polygon":
            yield geometry["coordinates"][0]
        elif geometry["type"] == "MultiPolygon":
            yield max((rings[0] for rings in geometry["coordinates"]), key=extent)


def extent(ring: Sequence[Sequence[float]]) -> float:
    """The area that a ring of points x, y encloses."""
    x, y = np.asarray(ring, float).T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def rois(path: Path) -> Iterator[np.ndarray]:
    """The outline of each region with an area in an ImageJ ROI zip, as points (m, 2)."""
    with extras.imported("reading ROIs", "roi"):
        from roifile import ROI_TYPE, roiread
    areas = {ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL}
    for roi in np.atleast_1d(roiread(str(path))):
        if roi.roitype in areas:
            pieces = roi.coordinates(multi=True)
            yield max(pieces, key=extent)
