"""What can be written beside a label image (app.exports does it): without any library, for the
command line."""

from typing import List

FORMATS = ("geojson", "roi", "coco", "ome-zarr")
PREVIEWS = {"outlines": "preview", "uncertainty": "uncertainty"}  # what users say: the export


def parse_formats(text: str) -> List[str]:
    """The formats of a text like "geojson,roi". Raises ValueError."""
    formats = [part.strip() for part in text.split(",")]
    for unknown in set(formats) - set(FORMATS):
        raise ValueError(f"a format is one of {', '.join(FORMATS)}, not {unknown!r}")
    return list(dict.fromkeys(formats))
