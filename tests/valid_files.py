"""Valid image files of all kinds, as bytes: what readers must read, and what the fuzzer mutates."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def picture(shape, dtype=np.uint8):
    """A seeded image: noise over the whole range of an integer dtype, or of -1e3..1e3."""
    rng, dtype = np.random.RandomState(0), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.uniform(-1e3, 1e3, shape).astype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def smooth(*channels, side=(32, 48)):
    """A gradient (*side[, C]) of small contrast, which lossy formats keep within a few steps."""
    rows, columns = np.mgrid[: side[0], : side[1]]
    parts = [100 + level + rows + columns // 2 for level in channels]
    return np.squeeze(np.stack(parts, axis=-1)).astype(np.uint8)


def png(height, width, depth, colour_type, samples, chunks=()):
    """The bytes of a PNG of any kind; samples: the packed bytes of its rows (height, n)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in body)


def png_chunk(kind, data):
    """The bytes of one chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def tiff(height, width, data, bits=8, photometric=1, compression=1, more=()):
    """The bytes of a grey TIFF of one strip; more: further (tag, value)."""
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: photometric}
    tags.update({273: 0, 278: height, 279: len(data)})
    tags.update(more)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    fields = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return start + b"".join(fields) + bytes(4) + data


def saved(image, kind, **options):
    """The bytes of a Pillow image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_by_tifffile(array, options):
    """The bytes that tifffile.imwrite makes of an array."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def colour_files():
    """name -> bytes of one file per format and layout, all of the same RGB image (60, 70, 3)."""
    pixels = picture((60, 70, 3))
    rgb, planes = Image.fromarray(pixels), np.moveaxis(pixels, 2, 0)
    files = {
        "png": saved(rgb, "PNG"),
        "16-bit png": png(60, 70, 16, 2, picture((60, 70, 6))),
        "jpg": saved(rgb, "JPEG"),
        "progressive jpg": saved(rgb, "JPEG", progressive=True),
        "bmp": saved(rgb, "BMP"),
        "webp": saved(rgb, "WEBP"),
        "lossless webp": saved(rgb, "WEBP", lossless=True),
        "tiff by Pillow": saved(rgb, "TIFF"),
        "lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
    }
    for compression in (None, "zlib", "jpeg"):
        for layout in ({}, {"tile": (16, 16)}, {"rowsperstrip": 8}):
            options = dict(layout, compression=compression, photometric="rgb")
            files[f"tiff {compression} {layout}"] = tiff_by_tifffile(pixels, options)
        options = {"compression": compression, "photometric": "minisblack"}
        files[f"tiff {compression} pages"] = tiff_by_tifffile(planes, options)
    options = {"metadata": {"axes": "CYX"}, "photometric": "minisblack"}
    files["imagej"] = tiff_by_tifffile(planes, dict(options, imagej=True))
    files["ome"] = tiff_by_tifffile(planes, dict(options, ome=True))
    return files


def other_files():
    """name -> bytes of files with less common insides."""
    grey, wide = picture((60, 70)), picture((60, 70), np.uint16)
    colours, black = smooth(0, 40, 80, side=(300, 400)), {"photometric": "minisblack"}
    files = {
        "palette png": saved(Image.fromarray(colours).quantize(20), "PNG"),
        "grey and alpha png": png(60, 70, 16, 4, picture((60, 70, 4))),
        "bilevel png": png(60, 70, 1, 0, picture((60, 9))),
        "large png": saved(Image.fromarray(colours), "PNG"),
        "cmyk jpg": saved(Image.fromarray(colours).convert("CMYK"), "JPEG"),
        "large jpg": saved(Image.fromarray(colours), "JPEG", progressive=True),
        "palette bmp": saved(Image.fromarray(colours).quantize(20), "BMP"),
        "bilevel bmp": saved(Image.fromarray(grey > 99), "BMP"),
        "animated webp": animated_webp(colours),
        "palette tiff": saved(Image.fromarray(colours).quantize(20), "TIFF"),
        "cmyk tiff": saved(Image.fromarray(picture((60, 70, 4)), "CMYK"), "TIFF"),
        "bilevel tiff": saved(Image.fromarray(grey > 99), "TIFF", compression="group4"),
        "12-bit tiff": tiff(60, 70, picture((60 * 105,)).tobytes(), bits=12),
        "white is zero": tiff(60, 70, grey.tobytes(), photometric=0),
        "floats": tiff_by_tifffile(
            picture((60, 70), np.float32), dict(black, compression="zlib", predictor=True)
        ),
        "bigtiff": tiff_by_tifffile(wide, dict(black, bigtiff=True, byteorder=">")),
        "planes": tiff_by_tifffile(
            picture((3, 60, 70)), {"photometric": "rgb", "planarconfig": "separate"}
        ),
        "hyperstack": tiff_by_tifffile(
            picture((2, 2, 3, 40, 50), np.uint16),
            dict(black, imagej=True, metadata={"axes": "TZCYX"}),
        ),
        "ome hyperstack": tiff_by_tifffile(
            picture((2, 2, 3, 40, 50), np.uint16), dict(black, ome=True, metadata={"axes": "TZCYX"})
        ),
        "pyramid": pyramid(colours),
        "large lzw": saved(
            Image.fromarray(colours), "TIFF", compression="tiff_lzw", tiffinfo={317: 2}
        ),
    }
    for compression in ("zlib", "packbits", "zstd", "lzma", "jpeg", "jpeg2000"):
        for layout in ({"tile": (64, 48)}, {"rowsperstrip": 16}):
            options = dict(layout, compression=compression, photometric="rgb")
            files[f"large {compression} {layout}"] = tiff_by_tifffile(colours, options)
    return files


def animated_webp(pixels):
    """The bytes of a WebP of two frames."""
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    return saved(first, "WEBP", save_all=True, append_images=[second])


def pyramid(pixels):
    """The bytes of a tiled TIFF with a smaller copy of the image."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        options = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
        writer.write(pixels, subifds=1, **options)
        writer.write(pixels[::2, ::2], subfiletype=1, **options)
    return buffer.getvalue()


def valid_files():
    """name -> bytes of all of them."""
    return dict(colour_files(), **other_files())
