"""TIFF: which of a file's pages and axes are its first image, by tifffile."""

import os
import re
import struct
from io import BytesIO
from typing import BinaryIO, List, Optional, Tuple, Union
from xml.etree import ElementTree

import numpy as np
import tifffile

from app.images.colours import JPEG, OLD_JPEG, Colours
from app.images.limits import ImageError, check_size, product
from app.images.metadata import Metadata, read_metadata
from app.images.pictures import read_picture
from app.images.regions import JPEG_2000, Chunks, Rows, TiffImage
from app.images.selection import first_of_stack, plane_indices, project
from app.selection import Plane, channel_count

# An unlabelled axis longer than this is never taken for channels.
MAX_GUESSED_CHANNELS = 16
# tifffile makes lists as long as the metadata say that a stack is.
MAX_PLANES = 10**6
# An image of less bytes is decoded at once, a larger one where it is looked at.
SMALL = 2**26

_DESCRIPTION = 270  # the tag
_NO_IMAGE = 1 | 4  # bits of NewSubfileType: of an image made smaller, and of a transparency mask
_STREAM, _STREAM_LENGTH = 513, 514  # tags of old-style JPEG: where its stream is
_MAX_TAGS = 4096  # of a page, as tifffile has it
# Tags that hold one whole number (sides, compression, ...), and the types for those. tifffile
# reckons with texts and lists, too, which exhausts the memory.
_NUMBERS = (256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323, 32997, 32998)
_WHOLE_NUMBERS = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)


def read_tiff(
    file: BinaryIO, plane: Optional[Plane] = None, small: int = SMALL
) -> Tuple[Union[np.ndarray, TiffImage], List[str], Metadata]:
    """(the first image, warnings, its Metadata) of an open TIFF file; see `app.images.load`.

    The image is an array, or from `small` bytes on a TiffImage that goes on reading from the file.
    """
    with tifffile.TiffFile(_Nameless(file), _multifile=False, **_kind_of_offsets(file)) as tif:
        _check_directories(tif)
        series = first_image(tif)
        page, axes, shape, warnings = _layout(tif, series, plane)
        _check_sizes(page, axes, shape, file)
        if page.compression == OLD_JPEG:
            plane_indices(plane, count=1)  # those of other pages cannot be read
            return _old_jpeg(page, file), warnings, read_metadata(tif, page, 1)
        colours = Colours(page)
        lead = len(axes) - len(page.axes)
        stack = [n for n, axis in zip(shape, axes) if axis not in "YXCS"]
        places = [np.unravel_index(k, stack) for k in plane_indices(plane, product(stack))]
        if axes[lead:].replace("C", "S") != page.axes or page.imagedepth > 1:
            image = project(map(colours, _whole(tif, series, axes, file, places)), plane)
        else:
            lengths = shape[:lead]
            planes = [_planes(tif, series, page, axes[:lead], lengths, at) for at in places]
            image = TiffImage(file, planes, colours, plane)
            image = image[:, :] if image.nbytes < small else image
        return image, warnings, read_metadata(tif, page, channel_count(image.shape))


def _kind_of_offsets(file):
    """What tifffile has to be told of a file of 4 GB and more: Hamamatsu's has offsets of 64 bits.

    It says so by its name alone. Of smaller ones the upper halves are 0, if they are there at all.
    """
    large = os.fstat(file.fileno()).st_size >= 2**32
    return {"is_ndpi": True} if large and str(file.name).lower().endswith(".ndpi") else {}


class _Nameless:
    """An open file that does not say where it is: tifffile shall not open others beside it."""

    def __init__(self, file):
        self.read, self.readinto = file.read, file.readinto
        self.seek, self.tell = file.seek, file.tell


def _check_directories(tif):
    """Refuse a file whose directories of pages go in circles, or lost what tifffile needs.

    That is the first page's description, or with it later pages, which may be channels. Where
    there is no description only the first page is used, and some writers leave nonsense behind
    the last.
    """
    codes, following = _directory(tif, tif.pages[0].offset)
    lost = _DESCRIPTION in codes and _DESCRIPTION not in tif.pages[0].tags
    seen = set()
    while following and codes is not None:
        if following in seen:
            raise ImageError("the pages of the TIFF file go in circles")
        seen.add(following)
        codes, following = _directory(tif, following)
    if lost or (codes is None and (tif.is_shaped or tif.is_imagej or tif.is_ome)):
        raise ImageError("the TIFF file is cut short")
    if tif.is_ome:
        _check_ome(tif.ome_metadata)


def _directory(tif, offset):
    """(tag numbers, offset of the next directory or 0) of the directory at this offset.

    None and 0 where there is no whole one.
    """
    file, layout = tif.filehandle, tif.tiff
    try:
        file.seek(offset)
        (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        entries = file.read(min(count, _MAX_TAGS) * layout.tagsize)
        (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    except (struct.error, OSError, OverflowError):
        return None, 0
    if len(entries) < count * layout.tagsize:
        return None, 0
    order, size = tif.byteorder, layout.tagsize // 2 - 2
    fields = [("tag", order + "u2"), ("type", order + "u2"), ("count", f"{order}u{size}")]
    tags = np.frombuffer(entries, fields + [("value", f"V{size}")])
    numbers = tags[np.isin(tags["tag"], _NUMBERS)]
    if (numbers["count"] != 1).any() or not np.isin(numbers["type"], _WHOLE_NUMBERS).all():
        raise ImageError("the TIFF data is damaged")
    return tags["tag"].tolist(), following


def _check_ome(text):
    """Refuse OME metadata that would have tifffile make room for far too many planes."""
    if "<!ENTITY" in text:  # small texts that expand to gigabytes
        raise ImageError("the OME metadata is damaged")
    try:
        elements = list(ElementTree.fromstring(text).iter())
    except ElementTree.ParseError:  # tifffile then takes the file for one without metadata
        return
    for element in elements:
        number = element.attrib.get
        planes = product(number("Size" + axis, 1) for axis in "ZCT")
        listed = max(int(number("NumPlanes", 0)), int(number("PlaneCount", 0)))
        steps = 0
        if "ModuloAlong" in element.tag:
            length = float(number("End", 0)) - float(number("Start", 0))
            steps = abs(length / float(number("Step", 1)))
        if max(planes, listed, steps) > MAX_PLANES:
            raise ImageError(f"the OME metadata announce more than {MAX_PLANES} planes")


def first_image(tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The first series of pages that are no thumbnails or masks of others; else the first.

    Leica's SCN holds an overview of the slide before the scan, which is larger.
    """
    full = list(filter(_is_full, tif.series)) or tif.series[:1]
    return max(full, key=lambda series: product(series.shape)) if tif.is_scn else full[0]


def _is_full(series):
    return not series.keyframe.subfiletype & _NO_IMAGE


def _layout(tif, series, plane):
    """(first page, axes, shape, warnings) of the first image: a letter and a length per axis.

    Who wants a certain plane takes planes without names for a stack.
    """
    if _is_part_of_a_set(tif):
        page = tif.pages[0]
        warning = "the file is one of a set; only its own first page is used"
        return page, page.axes, page.shape, [warning]
    page, axes, shape, warnings = series.keyframe, series.axes, series.shape, []
    if len(axes) == 3 and axes.count("Q") == 1:  # tifffile's letter for an axis without a name
        axes = guess_axes(shape)
        if axes == "CYX" and plane is not None:
            axes = "QYX"
        if axes == "CYX" and shape[0] > 1:
            warnings.append(
                f"its {shape[0]} planes are taken for channels: nothing in it says what they are"
            )
    planes = product(n for n, axis in zip(shape, axes) if axis not in "YXCS")
    if planes > 1 and plane is None:
        warnings.append(first_of_stack(planes))
    if any(other is not series and _is_full(other) for other in tif.series):
        warnings.append("the file holds several images; only the first is used")
    return page, axes, shape, warnings


def _old_jpeg(page, file):
    """The image of a page of old-style JPEG, where its tags lead to a whole JPEG stream.

    (There it may also be in tables and strips that fit together in no one way.)
    """
    try:
        tags = page.tags[_STREAM], page.tags[_STREAM_LENGTH]
        start, length = (int(np.ravel(tag.value)[0]) for tag in tags)  # some tifffile have lists
        file.seek(start)
        image, _ = read_picture(BytesIO(file.read(length)), "JPEG")
    except Exception as error:  # whatever Pillow makes of it
        raise _no_old_jpeg() from error
    if image.shape[:2] != page.shape[:2]:
        raise _no_old_jpeg()
    return image


def _no_old_jpeg():
    return ImageError(
        "old-style JPEG in TIFF (compression 6) of this kind is not supported: save it anew, with "
        "another compression"
    )


def _check_sizes(page, axes, shape, file):
    """Refuse images, strips and tiles that are larger than the file allows."""
    lengths = dict(zip(axes, shape))
    samples = lengths.get("S", 1)
    memory = page.dtype.itemsize * samples * lengths.get("C", 1)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    check_size(lengths["Y"], lengths["X"], memory, file, memory * min(bits, 8) / 8, whole=False)
    part = (page.tilelength, page.tilewidth)
    if not page.is_tiled:
        part = (min(page.rowsperstrip, lengths["Y"]), lengths["X"])
    check_size(*part, page.dtype.itemsize * samples, file)


def _is_part_of_a_set(tif):
    """Whether the metadata spreads one stack over several files, which may be elsewhere."""
    names = set(re.findall(r'FileName="([^"]*)"', tif.ome_metadata or ""))
    return len(names) > 1 or (len(names) == 1 and tif.series[0].kind.lower() != "ome")


def guess_axes(shape: Tuple[int, int, int]) -> str:
    """What the three axes of an array without axis names are, by their lengths.

    1. (H, W, C) if the last is at most 4 and shorter than the first;
    2. else (C, H, W) if the first is at most 16 and shorter than both others;
    3. else (H, W, C) if the last is at most 16 and shorter than both others;
    4. else a stack of images (n, H, W).
    Returns "YXC", "CYX" or "QYX".
    """
    first, middle, last = shape
    if last <= 4 and last < first:
        return "YXC"
    if first <= MAX_GUESSED_CHANNELS and first < min(middle, last):
        return "CYX"
    if last <= MAX_GUESSED_CHANNELS and last < min(first, middle):
        return "YXC"
    return "QYX"


def _planes(tif, series, page, axes, shape, place):
    """The planes of the first image at a place in its stack, one per channel that is a page.

    axes, shape: the series' axes before those of a page; place: where on each of them but C and S.
    """
    place = iter(place)
    taken = [range(n) if axis in "CS" else [next(place)] for axis, n in zip(axes, shape)]
    numbers = [0]
    if taken:
        numbers = np.ravel_multi_index(np.ix_(*taken), shape).ravel().tolist()
    if len(tif.pages) < product(shape):
        return _undescribed_planes(tif, page, numbers)
    parts = [series.pages[number] if number else page for number in numbers]
    for part in parts:
        check_complete(tif, part)
    if page.is_final and all(_is_in_one_piece(part) for part in parts):
        return [_rows(tif, page, part.dataoffsets[0]) for part in parts]
    return [Chunks(part) for part in parts]


def _undescribed_planes(tif, page, numbers):
    """Planes of a large stack by ImageJ: it describes the first, the others follow it raw."""
    if numbers == [0]:
        check_complete(tif, page)
        return [Chunks(page)]
    if not page.is_final:
        raise ImageError("pages are missing")
    size = product(page.shaped) * page.dtype.itemsize
    return [_rows(tif, page, page.dataoffsets[0] + number * size) for number in numbers]


def _rows(tif, page, offset):
    """The Rows of a plane like `page` from this offset on, which must all be in the file."""
    if offset + product(page.shaped) * page.dtype.itemsize > tif.filehandle.size:
        raise ImageError("the TIFF file is cut short")
    return Rows(page.shaped, np.dtype(tif.byteorder + page.dtype.char), offset)


def _is_in_one_piece(page):
    """Whether the strips of an uncompressed page follow each other."""
    offsets, counts = np.array(page.dataoffsets), np.array(page.databytecounts)
    return np.array_equal(offsets[:-1] + counts[:-1], offsets[1:])


def check_complete(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Refuse a page with data beyond the end of the file: some decoders fill it with zeros."""
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts))
    if max(ends, default=0) > tif.filehandle.size:
        raise ImageError("the TIFF file is cut short")


def _whole(tif, series, axes, file, places):
    """Yield the first image (H, W, channels, samples) at places in its stack.

    Its rows or columns are pages.
    """
    if series.keyframe.compression in JPEG + JPEG_2000:
        raise ImageError("JPEG is not supported where a row of the image is a TIFF page")
    check_size(1, product(series.shape), series.dtype.itemsize, file)
    for part in series.pages:
        check_complete(tif, part)
    whole = series.asarray()
    kept = [axis for axis in axes if axis in "YXCS"]
    order = sorted(range(len(kept)), key=lambda i: "YXCS".index(kept[i]))
    for place in map(iter, places):
        array = whole[tuple(slice(None) if axis in "YXCS" else next(place) for axis in axes)]
        array = array.transpose(order)
        height, width = array.shape[:2]
        yield array.reshape(height, width, -1, array.shape[-1] if "S" in kept else 1)
