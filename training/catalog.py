"""The labelled images, packed once into flat buffers from which a crop is a gather.

Images differ in size, so all pixels lie one after another; pixel (y, x) of image i is at
starts[i] + y * widths[i] + x (design.md, decision 3).
"""

import csv
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import torch

from app import images
from app.intensity import GAMMA_FLOOR, Curve, to_rgb8
from app.names import EXTENSIONS
from app.network import fourier
from training import licences, own_data

TABLE = "catalog.csv"
# Columns of it that may be there or be empty: above which and up to which number (see Entry).
NUMBERS = {"percentile": (50, 100), "gamma_floor": (0, 1), "largest": (0, images.MAX_PIXELS)}
POLYGON_POINTS = 128
LEAST_PIXELS = 5  # smaller objects are ignored (reference.md, section 2)
UNKNOWN_SIZE = 32.0  # pixels: what counts as an object's size in images without any


@dataclass
class Entry:
    """One image of a data folder; None is what the folder's catalogue does not tell.

    label: None for an unlabelled image. percentile, gamma_floor: of its 8-bit conversion
    (Curve.fit). largest: objects with a longer side of the box, in pixels, are ignored.
    """

    source: str
    image: Path
    label: Optional[Path] = None
    modality: Optional[str] = None
    licence: Optional[str] = None
    percentile: Optional[float] = None
    gamma_floor: float = GAMMA_FLOOR
    largest: Optional[float] = None

    @property
    def name(self):
        """What the image is called among those of all sources."""
        return f"{self.source}__{self.image.name.split('.')[0]}"


def entries(data, split, commercial=False, without=()):
    """The images of a split of a data folder, as a list of Entry.

    They come from the folder's catalog.csv; without one, as own_data describes. commercial: only
    those whose licence allows commercial use of what is trained on them (licences.py). without:
    names of sources to leave out. Raises ValueError when there is no image left, and for what the
    catalogue does not tell.
    """
    data = Path(data)
    listing = list_catalogue(data) if (data / TABLE).is_file() else list_own(data)
    known = sorted({entry.source for part in listing.values() for entry in part})
    for source in without:
        if source not in known:
            raise ValueError(f"{data} has no source '{source}'; there is {', '.join(known)}")
    chosen = [entry for entry in listing.get(split, []) if entry.source not in without]
    if commercial:
        chosen = [entry for entry in chosen if is_commercial(entry, data)]
    if not chosen:
        left = " that may be used" if commercial or without else ""
        raise ValueError(f"{data} has no image of the split '{split}'{left}")
    return chosen


def unlabelled(folder):
    """The images of a folder and its sub folders, as Entries without labels.

    Raises ValueError when there are none.
    """
    found = own_data.unlabelled(Path(folder))
    if not found:
        endings = ", ".join(EXTENSIONS)
        raise ValueError(f"{folder} is no folder with images ({endings})")
    return [Entry(source, image) for source, image in found]


def is_commercial(entry, data):
    """Whether an Entry's licence allows commercial use; ValueError where there is no licence."""
    if entry.licence is None:
        raise ValueError(
            f"{data} does not tell the licences of its images: a {TABLE} with the column licence "
            "would, by which those for commercial use can be chosen"
        )
    return licences.commercial(entry.licence)


def list_own(data):
    """{split: [Entry]} of a folder without catalogue."""
    found = own_data.find(data)
    return {split: [Entry(*paths) for paths in part] for split, part in found.items()}


def list_catalogue(data):
    """{split: [Entry]} of a folder with a catalogue."""
    table, listing = data / TABLE, {}
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, restval="")
        missing = {"source", "image", "label", "split"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{table} has no column {', '.join(sorted(missing))}")
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            listing.setdefault(row["split"], []).append(entry_of(row, data, where))
    return listing


def entry_of(row, data, where):
    """The Entry of a row of the catalogue; `where` that is, for people."""
    folder = data / row["source"]
    given = {name: number_of(row, name, where) for name in NUMBERS if row.get(name)}
    return Entry(
        row["source"],
        folder / row["image"],
        folder / row["label"],
        row.get("modality"),
        row.get("licence"),
        **given,
    )


def number_of(row, name, where):
    """The number in a column of NUMBERS. ValueError: it is none, or beyond its limits."""
    least, most = NUMBERS[name]
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not least < number <= most:
        raise ValueError(
            f"{where}: the {name} '{row[name]}' is no number above {least}, at most {most}"
        )
    return number


@dataclass
class Pack:
    """All images of a split as tensors on one device; P pixels, I images, M objects.

    colours (P,) int32: red + 256 green + 65536 blue, each a level 0..255 of the even mix of the
    two 8-bit conversions. curves (I, 2, 256) float32: conversion A and B, in 0..1, of each level
    (Curve.tables); mixes (I,) float32: the share of A that prediction takes; grey (I,) bool: the
    channels are alike. objects (P,) int32: row of the object that owns the pixel, -1 background,
    -2 ignored. depths (P,) uint8: distance from the border relative to the object's largest,
    1..255 (0 is background). starts, heights, widths (I,) int64. sources (I,) int64. polygons
    (M, POLYGON_POINTS, 2) float32 x y in image pixels, at uniform arc length. sizes (M,) float32:
    square root of the box's area in pixels. first, counts (I,) int64: the rows of the image's
    objects.
    """

    colours: torch.Tensor
    curves: torch.Tensor
    mixes: torch.Tensor
    grey: torch.Tensor
    objects: torch.Tensor
    depths: torch.Tensor
    starts: torch.Tensor
    heights: torch.Tensor
    widths: torch.Tensor
    sources: torch.Tensor
    polygons: torch.Tensor
    sizes: torch.Tensor
    first: torch.Tensor
    counts: torch.Tensor

    def to(self, device):
        """The same pack on a device."""
        return Pack(*(getattr(self, f.name).to(device) for f in fields(self)))

    def save(self, folder):
        """One .npy file per buffer."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name).numpy())

    @classmethod
    def load(cls, folder):
        """A saved pack, memory-mapped (copy on write, the files stay as they are)."""
        arrays = (np.load(folder / f"{f.name}.npy", mmap_mode="c") for f in fields(cls))
        return cls(*(torch.from_numpy(array) for array in arrays))


def pack(listing, progress=iter):
    """Read every Entry and pack it; `progress` wraps the iteration. Returns a Pack (CPU).

    Images without labels (`unlabelled`) are ignored in all their pixels. Raises ValueError with
    the file that cannot be read or does not fit.
    """
    names = sorted({entry.source for entry in listing})
    colours, curves, mixes, grey = [], [], [], []
    objects, depths, polygons, shapes, counts = [], [], [], [], []
    total = 0
    for entry in progress(listing):
        image = read_image(entry.image)
        curve = Curve.fit(image, entry.percentile, entry.gamma_floor)
        rgb = to_rgb8(image, curve.even())
        owner, depth, outlines = read_objects(entry, image.shape[:2])
        owner[owner >= 0] += total
        total += len(outlines)
        colours.append((rgb.astype(np.int32) @ np.array([1, 256, 65536], np.int32)).ravel())
        curves.append(curve.tables())
        mixes.append(curve.mix)
        grey.append(bool((rgb == rgb[..., :1]).all()))
        objects.append(owner.ravel())
        depths.append(depth.ravel())
        polygons.extend(outlines)
        shapes.append(owner.shape)
        counts.append(len(outlines))
    heights, widths = (torch.tensor(side) for side in zip(*shapes))
    counts = torch.tensor(counts)
    polygons = torch.stack(polygons) if polygons else torch.zeros(0, POLYGON_POINTS, 2)
    extent = polygons.amax(1) - polygons.amin(1) + 1
    return Pack(
        colours=torch.from_numpy(np.concatenate(colours)),
        curves=torch.from_numpy(np.stack(curves)),
        mixes=torch.tensor(mixes),
        grey=torch.tensor(grey),
        objects=torch.from_numpy(np.concatenate(objects)),
        depths=torch.from_numpy(np.concatenate(depths)),
        starts=(heights * widths).cumsum(0) - heights * widths,
        heights=heights,
        widths=widths,
        sources=torch.tensor([names.index(entry.source) for entry in listing]),
        polygons=polygons,
        sizes=extent.prod(1).sqrt(),
        first=counts.cumsum(0) - counts,
        counts=counts,
    )


def typical_sizes(pack):
    """Median object size (I,) of every image in pixels; UNKNOWN_SIZE where there is no object."""
    return torch.stack([sizes.median() for sizes in sizes_by_image(pack)])


def size_range(pack):
    """Smallest and largest object size of every image in pixels: two tensors (I,).

    UNKNOWN_SIZE where there is no object.
    """
    sizes = sizes_by_image(pack)
    return torch.stack([s.min() for s in sizes]), torch.stack([s.max() for s in sizes])


def sizes_by_image(pack):
    """The sizes (n,) of the objects of each image, n >= 1, on the CPU."""
    sizes = pack.sizes.cpu().split(pack.counts.tolist())
    return [s if len(s) else s.new_tensor([UNKNOWN_SIZE]) for s in sizes]


def read_image(path):
    """The image in a file, as app.images.read gives it. ValueError names the file."""
    try:
        return images.read(path)[0]
    except images.ImageError as error:
        raise ValueError(f"{path}: {error}") from error


def read_label(path, shape):
    """A label image (H, W) int64; ValueError when it is not of the image's shape."""
    label = read_image(path)
    if label.shape != shape:
        raise ValueError(f"{path} has shape {label.shape}, its image {shape}")
    return label[:, :].astype(np.int64)


def read_objects(entry, shape):
    """`describe_objects` of an Entry's label image; without one, all is ignored."""
    if entry.label is None:
        return np.full(shape, -2, np.int32), np.zeros(shape, np.uint8), []
    return describe_objects(read_label(entry.label, shape), entry.largest)


def describe_objects(label, largest=None):
    """Owners, depths and outlines of one label image (H, W), 0 = background.

    Returns owner (H, W) int32 (row of the object, -1 background, -2 ignored), depth (H, W)
    uint8 and the outlines, one (POLYGON_POINTS, 2) tensor per row. Objects of several pieces
    (paper, section 2.1), of fewer than LEAST_PIXELS pixels and with a side of the box above
    `largest` pixels (reference.md, section 2) are ignored.
    """
    owner = np.full(label.shape, -1, np.int32)
    depth = np.zeros(label.shape, np.uint8)
    outlines = []
    for value, (top, left, bottom, right) in object_boxes(label):
        patch = label[top:bottom, left:right] == value
        too_large = largest is not None and max(patch.shape) > largest
        outline = None if too_large else outline_of(patch)
        here = owner[top:bottom, left:right]
        if outline is None:
            here[patch] = -2
            continue
        here[patch] = len(outlines)
        depth[top:bottom, left:right][patch] = relative_depth(patch)[patch]
        outlines.append(outline + torch.tensor([left, top]))
    if not outlines:
        return owner, depth, outlines
    t = fourier.uniform_locations(POLYGON_POINTS)
    return owner, depth, [fourier.resample(o[None].float(), t)[0] for o in outlines]


def object_boxes(label):
    """Pairs (value, (top, left, bottom, right)) of every label value above 0, half-open."""
    y, x = np.nonzero(label > 0)
    values, index = np.unique(label[y, x], return_inverse=True)
    low = np.full((len(values), 2), np.iinfo(np.int64).max)
    high = np.zeros((len(values), 2), np.int64)
    for axis, position in enumerate((y, x)):
        np.minimum.at(low[:, axis], index, position)
        np.maximum.at(high[:, axis], index, position + 1)
    return [(v, (*a, *b)) for v, a, b in zip(values, low.tolist(), high.tolist())]


def outline_of(patch):
    """The polygon (K, 2) through the border pixels of a mask (h, w); None if ignored."""
    if patch.sum() < LEAST_PIXELS:
        return None
    pieces, _ = cv2.findContours(patch.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return torch.from_numpy(pieces[0][:, 0]) if len(pieces) == 1 else None


def relative_depth(patch):
    """Distance to the border over its largest value, (h, w) uint8 with 255 the deepest."""
    distance = cv2.distanceTransform(
        np.pad(patch, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )[1:-1, 1:-1]
    return np.ceil(distance / distance.max() * 255).astype(np.uint8)
