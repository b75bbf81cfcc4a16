"""Outlines as QuPath and ImageJ save them, back to a label image."""

import gzip
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple, Union

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

from app import extras
from app.exports.geojson import AREA
from app.exports.polygons import CORNER
from app.images import LabelError
from app.outlines import fill, on_grid, star_shaped
from app.rasterize import corners

LEAST = 3  # points of an outline
# Outlines are drawn on a grid of so many lines per pixel, on which whole and half pixels are lines.
# Prediction's own are drawn with a pen that takes what is within a third of a pixel: they run
# through the middles of border pixels. Of those that a user drew, pixels count whose middles lie
# within.
FINENESS, PEN, NO_PEN = 10, 7, 1
COARSE_FROM = 500  # pixels: larger outlines have a coarser grid, and no pen
COARSE = 2  # lines per pixel, then
REGION = 8  # a user's outline around the middles of more others than that is a region, and no cell
MOST = 0.95  # of the image: an outline of more than that is none either
SAME = 0.7  # IoU from which two outlines are of one cell


class Outline(NamedTuple):
    """The outline of an object, (m, 2) x y in pixels from the image's corner, and whether it is as
    prediction draws them."""

    points: np.ndarray
    is_ours: bool


def read_outlines(path: Path, shape: Tuple[int, int]) -> Tuple[np.ndarray, List[str]]:
    """The label image (H, W), int32, of the outlines in a GeoJSON file or an ImageJ ROI zip, and
    sentences on those that are not in it.

    shape: (height, width) of the image, from whose top-left corner they count. Labels are 1, 2 ...
    without gaps, those of larger outlines first, which lie below the smaller ones. What has no area
    (points, lines) counts not, nor does a region drawn around cells; of a cell in several pieces
    the largest counts, of one that is outlined twice the user's outline. Raises LabelError,
    extras.Unusable.
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
    labels, twins, hidden = drawn(cells, shape)
    said = (
        (len(found) - len(cells), "around many others or the whole image left out"),
        (twins, "of a cell that has another one left out"),
        (hidden, "without a pixel of its own left out"),
    )
    return labels, [f"{count} outline{'s' * (count > 1)} {what}" for count, what in said if count]


def without_regions(outlines: Sequence[Outline], shape: Tuple[int, int]) -> List[Outline]:
    """The Outlines without those that a user drew around many others, or nearly all of the image.

    (QuPath wants such a region to search for cells in, and exports it with them.)
    """
    if all(one.is_ours for one in outlines):
        return list(outlines)
    middles = np.array([one.points.mean(axis=0) for one in outlines])
    tree, kept = cKDTree(middles), []
    for number, one in enumerate(outlines):
        low, high = one.points.min(axis=0), one.points.max(axis=0)
        near = tree.query_ball_point((low + high) / 2, (high - low).max() / 2, p=np.inf)
        near = [other for other in near if other != number]
        is_region = extent(one.points) > MOST * shape[0] * shape[1] or (
            len(near) > REGION and points_in_poly(middles[near], one.points).sum() > REGION
        )
        if one.is_ours or not is_region:
            kept.append(one)
    return kept


def drawn(outlines: Sequence[Outline], shape: Tuple[int, int]) -> Tuple[np.ndarray, int, int]:
    """The labels of `read_outlines`, how many Outlines are left out as there is another one of the
    same cell, and how many have no pixel of their own."""
    labels = np.zeros(shape, np.int32)
    ordered = sorted(outlines, key=lambda one: extent(one.points), reverse=True)
    areas, places, twins = np.zeros(len(ordered) + 1, int), [None], 0
    are_ours = [False, *(one.is_ours for one in ordered)]
    for label, one in enumerate(ordered, 1):
        place, inside = filled(one, shape)
        there = labels[place]
        areas[label] = inside.sum()
        places.append(place)
        twin = twin_of(there[inside], areas, label, are_ours)
        twins += twin > 0
        if twin and one.is_ours:
            continue  # what the user drew stays
        if twin:
            earlier = labels[places[twin]]
            earlier[earlier == twin] = 0
        there[inside] = label
    kept = np.bincount(labels.ravel(), minlength=1) > 0
    kept[0] = False
    anew = np.where(kept, kept.cumsum(), 0).astype(np.int32)
    return anew[labels], twins, len(ordered) - twins - int(kept.sum())


def filled(outline: Outline, shape: Tuple[int, int]) -> Tuple[Tuple[slice, slice], np.ndarray]:
    """Where in an image of this shape an Outline lies, and the mask (h, w) of its pixels there."""
    contour = (outline.points - CORNER).astype(np.float32)
    low, high = np.clip(corners(contour[None]).reshape(2, 2), 0, shape[::-1])
    size = tuple((high - low)[::-1].tolist())
    fine = (FINENESS, PEN if outline.is_ours else NO_PEN)
    fineness, pen = fine if max(size) <= COARSE_FROM else (COARSE, NO_PEN)
    grid, crosses = on_grid(contour, low, fineness), not star_shaped(contour[None])[0]
    place = (slice(low[1], high[1]), slice(low[0], high[0]))
    return place, fill(grid, size, crosses, fineness, pen) > 0


def twin_of(below: np.ndarray, areas: np.ndarray, label: int, are_ours: Sequence[bool]) -> int:
    """The label of an outline drawn before that is of the same cell as that of `label`; 0: none.

    below: the labels (n,) of the pixels that it covers. areas, are_ours: pixels of each label,
    and whether its outline is as prediction draws them. A user has outlined a cell of ours anew
    where each covers most of the other; else two are of one cell where they are nearly alike.
    """
    others, counts = np.unique(below[below > 0], return_counts=True)
    if not len(others):
        return 0
    other, both = int(others[counts.argmax()]), counts.max()
    mine, its = areas[label], areas[other]
    anew = are_ours[label] != are_ours[other] and both > max(mine, its) / 2
    return other if anew or both > SAME * (mine + its - both) else 0


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
        yield Outline(as_points(ring), AREA in names_of(known.get("measurements") or ()))


def names_of(measurements: Union[Dict[str, Any], List[Dict[str, Any]]]) -> Set[str]:
    """The names of a feature's measurements: a dict, or of older QuPath a list of them."""
    return {one["name"] if isinstance(one, dict) else one for one in measurements}


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
