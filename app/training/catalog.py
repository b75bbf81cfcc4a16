"""The labelled images, packed once into flat buffers from which a crop is a gather.

Images differ in size, so all pixels lie one after another; pixel (y, x) of image i is at
starts[i] + y * widths[i] + x (design.md, decision 3).
"""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import torch

from app import images
from app.intensity import to_rgb8
from app.network import fourier

POLYGON_POINTS = 128
LEAST_PIXELS = 5  # smaller objects are ignored (reference.md, section 2)


@dataclass
class Entry:
    """One labelled image of a data folder."""

    name: str
    source: str
    image: Path
    label: Path
    modality: Optional[str] = None  # None where the catalogue does not tell


def entries(data, split):
    """The images of a split, from the folder's catalog.csv, as a list of Entry.

    Raises ValueError when the folder has no catalogue or no image of that split.
    """
    data = Path(data)
    table = data / "catalog.csv"
    if not table.is_file():
        raise ValueError(f"{data} has no catalog.csv that lists images, labels and splits")
    with table.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("split") == split]
    if not rows:
        raise ValueError(f"{table} lists no image of the split '{split}'")
    missing = {"source", "image", "label"} - set(rows[0])
    if missing:
        raise ValueError(f"{table} has no column {', '.join(sorted(missing))}")
    return [
        Entry(
            f"{row['source']}__{row['image'].split('.')[0]}",
            row["source"],
            data / row["source"] / row["image"],
            data / row["source"] / row["label"],
            row.get("modality"),
        )
        for row in rows
    ]


@dataclass
class Pack:
    """All images of a split as tensors on one device; P pixels, I images, M objects.

    colours (P,) int32: red + 256 green + 65536 blue. objects (P,) int32: row of the object that
    owns the pixel, -1 background, -2 ignored. depths (P,) uint8: distance from the border
    relative to the object's largest, 1..255 (0 is background). starts, heights, widths (I,)
    int64. sources (I,) int64. polygons (M, POLYGON_POINTS, 2) float32 x y in image pixels, at
    uniform arc length. sizes (M,) float32: square root of the box's area in pixels. first, counts
    (I,) int64: the rows of the image's objects.
    """

    colours: torch.Tensor
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
    """Read every Entry and pack it; `progress` wraps the iteration. Returns a Pack (CPU)."""
    names = sorted({entry.source for entry in listing})
    colours, objects, depths, polygons, shapes, counts = [], [], [], [], [], []
    total = 0
    for entry in progress(listing):
        image, _ = images.read(entry.image)
        label = read_label(entry.label, image.shape[:2])
        owner, depth, outlines = describe_objects(label)
        owner[owner >= 0] += total
        total += len(outlines)
        rgb = to_rgb8(image).astype(np.int32)
        colours.append((rgb @ np.array([1, 256, 65536], np.int32)).ravel())
        objects.append(owner.ravel())
        depths.append(depth.ravel())
        polygons.extend(outlines)
        shapes.append(label.shape)
        counts.append(len(outlines))
    heights, widths = (torch.tensor(side) for side in zip(*shapes))
    counts = torch.tensor(counts)
    polygons = torch.stack(polygons) if polygons else torch.zeros(0, POLYGON_POINTS, 2)
    extent = polygons.amax(1) - polygons.amin(1) + 1
    return Pack(
        colours=torch.from_numpy(np.concatenate(colours)),
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


def read_label(path, shape):
    """A label image (H, W) int32; ValueError when it is not of the image's shape."""
    label, _ = images.read(path)
    if label.shape != shape:
        raise ValueError(f"{path} has shape {label.shape}, its image {shape}")
    return label[:, :].astype(np.int32)


def describe_objects(label):
    """Owners, depths and outlines of one label image (H, W), 0 = background.

    Returns owner (H, W) int32 (row of the object, -1 background, -2 ignored), depth (H, W)
    uint8 and the outlines, one (POLYGON_POINTS, 2) tensor per row. Objects of several pieces
    (paper, section 2.1) and of fewer than LEAST_PIXELS pixels are ignored.
    """
    owner = np.full(label.shape, -1, np.int32)
    depth = np.zeros(label.shape, np.uint8)
    outlines = []
    for value, (top, left, bottom, right) in object_boxes(label):
        patch = label[top:bottom, left:right] == value
        outline = outline_of(patch)
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
    y, x = np.nonzero(label)
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
