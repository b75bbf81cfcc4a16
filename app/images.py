"""Everything that knows image files: find the inputs of a folder, read one, write a label image.

What a file holds is decided by its content; its extension only decides whether it is tried.
OpenCV reads PNG (16-bit colour, and strict on damage), Pillow reads JPEG (strict, where OpenCV
fills what is missing with grey), BMP and WebP, tifffile reads TIFF. (imagecodecs of 2021, the
last for Python 3.7, ends the whole process on a damaged PNG.)
"""

import logging
import os
import re
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import tifffile

EXTENSIONS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
LABEL_ENDINGS = ("_label.png", "_label.tif", "_label.tiff")

# Height x width beyond this is refused from the header, before memory is asked for.
# It is also the limit of OpenCV's PNG reader.
MAX_PIXELS = 2**30
# An unlabelled TIFF axis longer than this is never taken for channels.
MAX_GUESSED_CHANNELS = 16

_DESCRIPTION = 270  # the TIFF tag
# PhotometricInterpretation of TIFF; CIELAB, LogLuv and the like are not supported.
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_READABLE = (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK)

# tifffile logs what it finds odd; what matters of that is raised here as an ImageError.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class ImageError(Exception):
    """Why a file or folder cannot be read or written: one sentence, which leaves out its path."""


def list_inputs(folder):
    """The images of `folder` that are to be segmented, sorted by name.

    Returns (inputs, refused, passed_over): a list of Path; a list of (Path, reason) for images
    whose names agree up to the first dot, which would write the same output; a list of
    (Path, reason) for what is no input: hidden files, folders, other files, and label images
    (names that end in _label.png, _label.tif or _label.tiff in any case).
    Raises ImageError if the folder cannot be listed.
    """
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ImageError(f"the folder cannot be listed ({error.strerror})") from error
    reasons = [(path, _no_input(path)) for path in paths]
    by_output = {}
    for path, reason in reasons:
        if not reason:
            by_output.setdefault(output_name(path), []).append(path)
    inputs, refused = [], []
    for path, reason in reasons:
        rivals = [] if reason else by_output[output_name(path)]
        if len(rivals) == 1:
            inputs.append(path)
        elif rivals:
            refused.append((path, f"{len(rivals)} inputs would write {output_name(path)}"))
    return inputs, refused, [(path, reason) for path, reason in reasons if reason]


def _no_input(path):
    """Why `path` is no input, or None if it is one. A dangling link is one: reading it fails."""
    name = path.name.lower()
    if name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "a folder"
    if path.exists() and not path.is_file():
        return "not a regular file"
    if name.endswith(LABEL_ENDINGS):
        return "a label image"
    if not name.endswith(EXTENSIONS):
        return "not an image by its extension"
    return None


def output_name(path):
    """The name of the label image of an input: its name up to the first dot + _label.tiff."""
    return Path(path).name.split(".")[0] + "_label.tiff"


def read(path):
    """Read the image in a TIFF, PNG, JPEG, BMP or WebP file.

    Returns (image, warnings): an array (H, W) or (H, W, C) in the file's own dtype (native byte
    order) and a list of sentences about what was left out.

    - Colours come as RGB: palettes and CMYK are converted. Alpha is dropped: all that PNG, BMP
      and WebP call so, TIFF samples marked as alpha, and the fourth sample of 8-bit RGB TIFF.
    - 0 is black: TIFF that stores white as 0 is inverted. Fewer than 8 bits are spread to 0..255.
    - Orientation tags (EXIF, TIFF) are not applied: labels match the pixels as stored.
    - Of a TIFF's axes C and S are channels. Of all others (pages, Z, T, ...) and of further
      images in the file only the first is used, with a warning; of a file that is one of an OME
      set, its first page.
    - The axes of an array that tifffile or scikit-image wrote without names follow
      `guess_axes`, by its shape alone.
    - More than three channels are returned whole, with a warning: the conversion to RGB uses
      the first three.

    Raises ImageError for everything that cannot be read whole.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(12)
            file.seek(0)
            array, warnings = _decode(file, head)
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error
    if array.dtype.kind not in "uif":
        raise ImageError(f"pixels of type {array.dtype} are no intensities")
    if array.ndim == 3 and array.shape[2] > 3:
        warnings.append(f"the image has {array.shape[2]} channels; the first three are used")
    return array, warnings


def _decode(file, head):
    """The (array, warnings) of an open file, by its first bytes."""
    kind = _kind(head)
    try:
        if kind == "TIFF":
            array, warnings = _read_tiff(file)
        else:
            array, warnings = _read_png(file) if kind == "PNG" else _read_pillow(file, kind), []
        return np.ascontiguousarray(array), warnings
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("the image does not fit into memory") from error
    except Exception as error:  # each decoder fails in many ways of its own on damaged data
        raise ImageError(f"the {kind} data is damaged, cut short or not supported") from error


def _kind(head):
    """The name of the format that starts with these bytes."""
    if not head:
        raise ImageError("the file is empty")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:2] == b"BM":
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    raise ImageError("the content is not TIFF, PNG, JPEG, BMP or WebP")


def _check_size(height, width):
    """Refuse an image without pixels, or with more than memory should be asked for."""
    if height < 1 or width < 1:
        raise ImageError("the image has no pixels")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are more than the {MAX_PIXELS} allowed")


def _read_png(file):
    """PNG by OpenCV: (H, W) or (H, W, 3), uint8 or uint16."""
    import cv2

    data = np.frombuffer(file.read(), np.uint8)
    width, height = (int(n) for n in data[16:24].view(">u4"))
    is_grey = data[25] in (0, 4)  # colour types: grey, grey + alpha
    _check_size(height, width)
    array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("OpenCV gives no reason")
    if is_grey:  # OpenCV makes BGRA of grey + alpha
        return array if array.ndim == 2 else array[..., 0]
    return array[..., 2::-1]


def _read_pillow(file, kind):
    """JPEG, BMP or WebP by Pillow: (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is our limit
    with Image.open(file, formats=[kind]) as image:
        _check_size(image.height, image.width)
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _read_tiff(file):
    """TIFF by tifffile: (the first image, warnings)."""
    with tifffile.TiffFile(file) as tif:
        _check_directory(tif)
        page, axes, shape, warnings = _layout(tif)
        _check_size(shape[axes.index("Y")], shape[axes.index("X")])
        array, axes = _first_image(tif, page, axes, shape)
        return _tiff_colours(_channels_last(array, axes), "S" in axes, page), warnings


def _check_directory(tif):
    """Refuse a file that lost what says how its pages belong together; tifffile overlooks it.

    That is the first page's description, or with it later pages, which may be channels. Where
    there is no description only the first page is used, and some writers leave nonsense behind
    the last.
    """
    codes, _ = _directory(tif, 0)
    _, more = _directory(tif, len(tif.pages) - 1)
    lost = _DESCRIPTION in codes and _DESCRIPTION not in tif.pages[0].tags
    if lost or (more and (tif.is_shaped or tif.is_imagej or tif.is_ome)):
        raise ImageError("the TIFF file is cut short")


def _directory(tif, number):
    """(tag numbers, whether another page is announced) as page `number` has them in the file."""
    file, layout = tif.filehandle, tif.tiff
    file.seek(tif.pages[number].offset)
    (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    words = np.frombuffer(file.read(count * layout.tagsize), tif.byteorder + "u2")
    return words[:: layout.tagsize // 2], any(file.read(layout.offsetsize))


def _layout(tif):
    """(first page, axes, shape, warnings) of the first image: a letter and a length per axis."""
    if _is_part_of_a_set(tif):
        page = tif.pages[0]
        warning = "the file is one of a set; only its own first page is used"
        return page, page.axes, page.shape, [warning]
    series = tif.series[0]
    axes, shape = series.axes, series.shape
    if len(axes) == 3 and axes.count("Q") == 1:  # tifffile's letter for an axis without a name
        axes = guess_axes(shape)
    alone = all(n == 1 for n, axis in zip(shape, axes) if axis not in "YXCS")
    warning = "the file holds several images; only the first is used"
    return series.keyframe, axes, shape, [] if alone and len(tif.series) == 1 else [warning]


def _is_part_of_a_set(tif):
    """Whether the metadata spreads one stack over several files, which may be elsewhere."""
    names = re.findall(r'FileName="([^"]*)"', tif.ome_metadata or "")
    return len(set(names)) > 1 or tif.series[0].is_multifile


def guess_axes(shape):
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


def _first_image(tif, page, axes, shape):
    """All channels of the first image, with the letters of the array's axes.

    Only the pages that hold it are read, unless the image is spread over pages in another way.
    """
    lead = len(axes) - len(page.axes)
    if axes[lead:] != page.axes:
        for part in tif.series[0].pages:
            _check_complete(tif, part)
        return tif.series[0].asarray(), axes
    numbers = np.arange(int(np.prod(shape[:lead]))).reshape(shape[:lead])
    in_file = len(tif.pages) >= numbers.size
    numbers = numbers[tuple(slice(None) if axis in "CS" else 0 for axis in axes[:lead])]
    planes = [_plane(tif, page, number, in_file) for number in numbers.ravel()]
    kept = "".join(axis for axis in axes[:lead] if axis in "CS")
    return np.stack(planes).reshape(numbers.shape + page.shape), kept + page.axes


def _plane(tif, page, number, in_file):
    """Plane `number` of the series that starts with `page`."""
    if number == 0 or in_file:
        part = tif.series[0].pages[number] if number else page
        _check_complete(tif, part)
        return part.asarray()
    # ImageJ describes only the first page of a large stack: the others follow it uncompressed.
    if not page.is_contiguous:
        raise ImageError("pages are missing")
    dtype = np.dtype(tif.byteorder + page.dtype.char)
    count = int(np.prod(page.shape))
    tif.filehandle.seek(page.dataoffsets[0] + int(number) * count * dtype.itemsize)
    return np.frombuffer(tif.filehandle.read(count * dtype.itemsize), dtype).reshape(page.shape)


def _check_complete(tif, page):
    """Refuse a page with data beyond the end of the file: some decoders fill it with zeros."""
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts))
    if max(ends, default=0) > tif.filehandle.size:
        raise ImageError("the TIFF file is cut short")


def _channels_last(array, axes):
    """(H, W), then channels, then samples, of an array with lettered axes; others at 0."""
    array = array[tuple(slice(None) if axis in "YXCS" else 0 for axis in axes)]
    axes = [axis for axis in axes if axis in "YXCS"]
    order = sorted(range(len(axes)), key=lambda i: "YXCS".index(axes[i]))
    return array.transpose(order)


def _tiff_colours(array, has_samples, page):
    """The grey, RGB or multi-channel image (H, W[, C]) that a TIFF page's samples stand for."""
    bits = page.bitspersample
    if page.photometric not in _READABLE and not _is_jpeg_ycbcr(page):
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageError(f"TIFF colours of the kind {name} are not supported")
    if page.photometric == _PALETTE and array.ndim == 2:
        return _colormap(page)[array.astype(np.uint16)]
    if isinstance(bits, int) and bits < 8:
        array, bits = (array.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8), 8
    if page.photometric == _MINISWHITE:
        array = _inverted(array, bits)
    if has_samples:
        array = array[..., _colour_samples(page)]
    if page.photometric == _CMYK and array.shape[-1] == 4:
        array = _rgb_of_cmyk(array)
    array = array.reshape(array.shape[:2] + (-1,))
    return array[..., 0] if array.shape[2] == 1 else array


def _is_jpeg_ycbcr(page):
    """Whether the JPEG decoder turns the page's YCbCr into RGB."""
    return page.photometric == 6 and page.compression in (6, 7, 34892, 33007)


def _colormap(page):
    """The page's palette as (n, 3) uint8; TIFF keeps 16 bits, careless writers only 8 of them."""
    palette = np.asarray(page.colormap).T
    return (palette if palette.max() < 256 else palette >> 8).astype(np.uint8)


def _inverted(array, bits):
    """Black for white: unsigned integers within their bits, others by their sign."""
    if array.dtype.kind == "u":
        return array.dtype.type(2**bits - 1) - array
    return ~array if array.dtype.kind == "i" else -array


def _colour_samples(page):
    """The indices of a pixel's samples that are not alpha."""
    count, extras = page.samplesperpixel, tuple(page.extrasamples)
    if page.photometric == _RGB and count == 4 and page.dtype == np.uint8:
        return [0, 1, 2]
    roles = (0,) * (count - len(extras)) + extras
    return [i for i, role in enumerate(roles) if role not in (1, 2)]


def _rgb_of_cmyk(array):
    """(..., 4) unsigned integers, 0 is no ink -> (..., 3), as Pillow does for JPEG."""
    white = np.iinfo(array.dtype).max
    light = (white - array).astype(np.uint32)
    return ((light[..., :3] * light[..., 3:] + white // 2) // white).astype(array.dtype)


def write_labels(path, labels):
    """Write labels (H, W), integers 0..2**32 - 1, as zlib-compressed TIFF.

    uint16, or uint32 if a label is above 65,535. The file is complete or absent: it is written
    under a hidden temporary name beside `path` and renamed; whatever interrupts that, the
    temporary file is removed. Raises ImageError if the file cannot be written.
    """
    path, labels = Path(path), np.asarray(labels)
    least, most = labels.min(initial=0), labels.max(initial=0)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or least < 0 or most >= 2**32:
        raise ValueError(f"no label image: {labels.dtype} of shape {labels.shape}")
    dtype = np.uint16 if most < 2**16 else np.uint32
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            pixels = labels.astype(dtype, copy=False)
            tifffile.imwrite(
                file, pixels, photometric="minisblack", compression="zlib", metadata=None
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ImageError(f"the label image cannot be written ({error.strerror})") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
