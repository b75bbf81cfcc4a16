"""Outlines as QuPath and ImageJ save them, back to a label image."""

import gzip
import json
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from app import extras
from app.cells import Cells
from app.exports.polygons import CORNER
from app.images import LabelError
from app.rasterize import rasterize

LEAST = 3  # points of an outline


def read_outlines(path: Path, shape: Tuple[int, int]) -> np.ndarray:
    """The label image (H, W), int32, of the outlines in a GeoJSON file or an ImageJ ROI zip.

    shape: (height, width) of the image, from whose top-left corner they count. Labels are 1, 2 ...
    in the order of the file. What has no area (points, lines) counts not; of a cell in several
    pieces the largest counts. Raises LabelError, extras.Unusable.
    """
    try:
        found = rois(path) if path.name.lower().endswith(".zip") else geometries(path)
        polygons = [np.asarray(polygon, np.float32) for polygon in found]
    except (OSError, EOFError, LookupError, TypeError, ValueError) as error:
        raise LabelError(f"its outlines cannot be read ({error})") from error
    polygons = [polygon for polygon in polygons if len(polygon) >= LEAST]
    if any(polygon.shape[1:] != (2,) or not np.isfinite(polygon).all() for polygon in polygons):
        raise LabelError("its outlines are no lists of points x, y")
    return drawn(polygons, shape)


def drawn(polygons: Sequence[np.ndarray], shape: Tuple[int, int]) -> np.ndarray:
    """The label image (H, W), int32, of polygons (m, 2) in pixels from the image's corner."""
    longest = max(map(len, polygons), default=1)
    contours = np.empty((len(polygons), longest, 2), np.float32)
    for contour, polygon in zip(contours, polygons):
        contour[:] = polygon[-1]  # a point again and again changes no outline
        contour[: len(polygon)] = polygon
    contours -= CORNER
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    ones = np.ones(len(polygons), np.float32)
    return rasterize(Cells(contours, boxes, ones, np.zeros((len(polygons), 4), np.float32)), shape)[
        0
    ]


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
