"""The images of a split, packed once into flat buffers from which a crop is a gather.

Images differ in size, so all pixels lie one after another; pixel (y, x) of image i is at
starts[i] + y * widths[i] + x (design.md, decision 3). A pack is a folder with a file of each
buffer. The files grow image by image: packing takes the memory of one image, and 6 bytes a pixel
of the disk.
"""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace

import cv2
import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from app.atomic import replacing
from app.digests import sha256_of
from app.images import read_labels
from app.intensity import CONVERSIONS, to_rgb8
from app.network import fourier
from training import distributed
from training.catalog import read_image

FORMAT = "3"  # of the files; packs of another one are made anew
GPU_SHARE = 0.5  # of a GPU's free memory may be pixels: training needs the rest
POLYGON_POINTS = 128
LEAST_PIXELS = 5  # smaller objects are ignored (reference.md, section 2)
UNKNOWN_SIZE = 32.0  # pixels: what counts as an object's size in images without any


def stored(dtype, *shape):
    """A field of Pack that has a file: a sequence of arrays of this dtype and shape."""
    return field(metadata={"dtype": np.dtype(dtype), "shape": shape})


@dataclass
class Pack:
    """All images of a split as tensors; P pixels, I images, M objects.

    red, green, blue (P,) uint8: levels of the even mix of the two 8-bit conversions. objects (P,)
    int16, or int32 where an image has more of them: the object that owns the pixel, by its number
    within the image, -1 background, -2 ignored. depths (P,) uint8: distance from the border
    relative to the object's largest, 1..255 (0 is background). Where no image has labels, objects
    and depths are empty. curves (I, 3, 2, 256) float32: conversion A and B, in 0..1, of each level
    of red, green and blue (Curves.tables); mixes (I, 3) float32: the share of A that prediction
    takes; grey (I,) bool: the channels are alike; photograph (I,) bool: they share one curve. gaps
    (I, 3) float32: x, y and radius of the largest square without objects. heights, widths, sources
    (I,) int64. polygons (M, POLYGON_POINTS, 2) float32 x y in image pixels, at uniform arc length.
    sizes (M,) float32: square root of the box's area in pixels. counts (I,) int64: the image's
    objects. starts, first (I,) int64: of its pixels and of its objects among all.
    """

    red: torch.Tensor = stored("u1")
    green: torch.Tensor = stored("u1")
    blue: torch.Tensor = stored("u1")
    objects: torch.Tensor = stored("i2")
    depths: torch.Tensor = stored("u1")
    curves: torch.Tensor = stored("f4", 3, 2, 256)
    mixes: torch.Tensor = stored("f4", 3)
    grey: torch.Tensor = stored("?")
    photograph: torch.Tensor = stored("?")
    gaps: torch.Tensor = stored("f4", 3)
    heights: torch.Tensor = stored("i8")
    widths: torch.Tensor = stored("i8")
    sources: torch.Tensor = stored("i8")
    polygons: torch.Tensor = stored("f4", POLYGON_POINTS, 2)
    sizes: torch.Tensor = stored("f4")
    counts: torch.Tensor = stored("i8")
    starts: torch.Tensor = field(init=False)
    first: torch.Tensor = field(init=False)

    @classmethod
    def load(cls, folder):
        """The pack in a folder, memory-mapped (copy on write, the files stay as they are)."""
        return cls(*(torch.from_numpy(mapped(folder, name)) for name in STORED))

    def __post_init__(self):
        areas = self.heights * self.widths
        self.starts, self.first = (each.cumsum(0) - each for each in (areas, self.counts))

    def to(self, device):
        """The same pack on a torch.device, its pixels only where they fit into GPU_SHARE of the
        free memory of that; else they stay mapped, and crops are gathered on the CPU."""
        moved = self.move(INDEX, device)
        pixels = [getattr(self, name) for name in PIXELS]
        size = sum(values.numel() * values.element_size() for values in pixels)
        return moved.move(PIXELS, device) if size <= GPU_SHARE * free_memory(device) else moved

    def move(self, names, device):
        """The same pack with the tensors of these names on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


STORED = {each.name: each.metadata for each in fields(Pack) if each.init}
PIXELS = ("red", "green", "blue", "objects", "depths")  # buffers of a number for each pixel
INDEX = tuple(name for name in STORED if name not in PIXELS)  # small ones


def free_memory(device):
    """Free bytes of a torch.device; what the CPU maps from files takes none."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def file_of(folder, name):
    """The file of a buffer of the pack in a folder."""
    return folder / f"{name}.raw"


def mapped(folder, name):
    """A buffer of the pack in a folder, as an array."""
    path, dtype, shape = file_of(folder, name), STORED[name]["dtype"], STORED[name]["shape"]
    size = path.stat().st_size
    if size == 0:  # cannot be mapped
        return np.empty((0, *shape), dtype)
    if name == "objects" and size == 4 * file_of(folder, "depths").stat().st_size:
        dtype = "i4"
    return np.memmap(path, dtype, mode="c").reshape(-1, *shape)


def load_pack(listing, folder, begins, conversion):
    """The Pack of a listing in a folder: made once, memory-mapped from then on.

    begins: whether the run does. conversion: of intensities, by its name in
    app.intensity.CONVERSIONS. ValueError: the run has begun, and its images or labels changed.
    """
    done, wanted = folder / "complete", [fingerprint(listing), f"{FORMAT}-{conversion}"]
    packed = done.read_text().split() if done.is_file() else []
    if not begins and packed and packed[0] != wanted[0]:
        raise ValueError(
            f"images or labels have changed since {folder.parent} began: choose another --out"
        )
    if distributed.is_first() and packed != wanted:
        if packed:
            done.unlink()
            for path in folder.glob("*.npy"):  # of format 1
                path.unlink()
        pack(listing, folder, conversion, lambda items: tqdm(items, desc="packing", disable=None))
        with replacing(done, text=True) as file:
            file.write(" ".join(wanted))
    distributed.wait()
    return Pack.load(folder)


def fingerprint(listing):
    """What decides a pack: the Entries with the content of their files.

    Neither where the files lie nor when they were written: a run goes on with a copy of its data.
    """
    lines = []
    for entry in listing:
        label = entry.label and sha256_of(entry.label)
        lines.append(repr(replace(entry, image=sha256_of(entry.image), label=label)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pack(listing, folder, conversion="channels", progress=iter):
    """Read every Entry and pack it into a folder; `progress` wraps the iteration. Returns the Pack.

    conversion: as of `load_pack`.

    Images without labels (`catalog.unlabelled`) are ignored in all their pixels. Raises ValueError
    with the file that cannot be read or does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write(listing, folder, np.int16, conversion, progress)
    except OverflowError:
        write(listing, folder, np.int32, conversion, progress)
    return Pack.load(folder)


def write(listing, folder, dtype, conversion, progress):
    """Write the files of a pack, its objects of a dtype.

    OverflowError: an image has more objects than that numbers.
    """
    sources = {name: number for number, name in enumerate(sorted({e.source for e in listing}))}
    labelled = any(entry.label for entry in listing)
    with ExitStack() as stack:
        files = {name: stack.enter_context(file_of(folder, name).open("wb")) for name in STORED}
        for entry in progress(listing):
            buffers = {"sources": sources[entry.source], **describe(entry, labelled, conversion)}
            if buffers["counts"] > np.iinfo(dtype).max:
                raise OverflowError(f"{entry.label} has {buffers['counts']} objects")
            for name, values in buffers.items():
                wanted = dtype if name == "objects" else STORED[name]["dtype"]
                files[name].write(np.ascontiguousarray(values, wanted))


def describe(entry, labelled, conversion):
    """What the pack of an Entry's split holds of it, but for its source: {name in STORED: values}.

    labelled: whether any image of the split has labels. conversion: as of `load_pack`.
    """
    image = read_image(entry.image)
    curve = CONVERSIONS[conversion](image, entry.percentile, entry.gamma_floor)
    rgb = to_rgb8(image, curve.even())
    tables, alike = curve.tables(), (rgb == rgb[..., :1]).all()
    owner, depth, polygons = read_objects(entry, rgb.shape[:2])
    return {
        **dict(zip(("red", "green", "blue"), np.moveaxis(rgb, 2, 0))),
        "objects": owner if labelled else (),
        "depths": depth if labelled else (),
        "curves": np.broadcast_to(tables, (3, *tables.shape[-2:])),
        "mixes": curve.mixes,
        "grey": alike,
        "photograph": curve.photograph and not alike,
        "gaps": largest_gap(owner),
        "heights": rgb.shape[0],
        "widths": rgb.shape[1],
        "polygons": polygons.numpy(),
        "sizes": (polygons.amax(1) - polygons.amin(1) + 1).prod(1).sqrt(),
        "counts": len(polygons),
    }


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


def read_label(path, shape):
    """A label image (H, W) int64; ValueError when it is not of the image's shape."""
    label = read_labels(path)
    if label.shape != shape:
        raise ValueError(f"{path} has shape {label.shape}, its image {shape}")
    return label.astype(np.int64)


def read_objects(entry, shape):
    """`describe_objects` of an Entry's label image; without one, all is ignored."""
    if entry.label is None:
        nothing = torch.zeros(0, POLYGON_POINTS, 2)
        return np.full(shape, -2, np.int32), np.zeros(shape, np.uint8), nothing
    return describe_objects(read_label(entry.label, shape), entry.largest)


def describe_objects(label, largest=None):
    """Owners, depths and outlines of the n objects of one label image (H, W), 0 = background.

    Returns owner (H, W) int32 (row of the object, -1 background, -2 ignored), depth (H, W)
    uint8 and the outlines, a tensor (n, POLYGON_POINTS, 2). Objects of several pieces (paper,
    section 2.1), of fewer than LEAST_PIXELS pixels and with a side of the box above `largest`
    pixels (reference.md, section 2) are ignored.
    """
    owner = np.full(label.shape, -1, np.int32)
    depth = np.zeros(label.shape, np.uint8)
    outlines = []
    for value, box in object_boxes(label):
        patch = label[box] == value
        too_large = largest is not None and max(patch.shape) > largest
        outline = None if too_large else outline_of(patch)
        owner[box][patch] = -2 if outline is None else len(outlines)
        if outline is not None:
            depth[box][patch] = relative_depth(patch)[patch]
            outlines.append(outline + torch.tensor([box[1].start, box[0].start]))
    t = fourier.uniform_locations(POLYGON_POINTS)
    polygons = [fourier.resample(outline[None].float(), t) for outline in outlines]
    return owner, depth, torch.cat([torch.zeros(0, POLYGON_POINTS, 2), *polygons])


def object_boxes(label):
    """Pairs of every value above 0 of a label image, ascending, and its box, a pair of slices."""
    inside = label > 0
    values, index = np.unique(label[inside], return_inverse=True)
    dense = np.zeros(label.shape, np.int32)
    dense[inside] = index + 1
    return zip(values, ndimage.find_objects(dense))


def outline_of(patch):
    """The polygon (K, 2) through the border pixels of a mask (h, w); None if ignored."""
    if patch.sum() < LEAST_PIXELS:
        return None
    pieces, _ = cv2.findContours(patch.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return torch.from_numpy(pieces[0][:, 0]) if len(pieces) == 1 else None


def largest_gap(owner):
    """Of the largest square of an image (H, W) without objects: x, y and radius in pixels.

    owner: as of `describe_objects`. A radius of 0: there is none.
    """
    free = np.pad((owner == -1).astype(np.uint8), 1)
    radii = cv2.distanceTransform(free, cv2.DIST_C, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(radii.argmax(), radii.shape)
    return x, y, radii[y, x]


def relative_depth(patch):
    """Distance to the border over its largest value, (h, w) uint8 with 255 the deepest."""
    distance = cv2.distanceTransform(
        np.pad(patch, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )[1:-1, 1:-1]
    # OpenCV's roots differ from call to call by a last digit; their squares are whole numbers.
    distance = np.sqrt(np.rint(distance**2))
    return np.ceil(distance / distance.max() * 255).astype(np.uint8)
