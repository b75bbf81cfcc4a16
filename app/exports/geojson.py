"""GeoJSON as QuPath reads it: NAME.geojson.gz, a feature for each cell."""

import gzip
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, List

from app.atomic import replacing
from app.digests import sha256_of, size_and_digest
from app.exports import Result
from app.exports.polygons import polygons
from app.exports.properties import properties
from app.exports.streams import write_list

LOOKS = False
# Whether they are whole cells or nuclei the network does not say; QuPath measures both alike.
OBJECT_TYPE = "detection"
# Not `area`: QuPath's own is that of the polygon, which encloses less than the label's pixels.
AREA = "label_area_px"
COMPRESSION = 2  # of 1 to 9: more takes most of the time and saves little
_NAMESPACE = uuid.UUID("5d0b9a55-0f0c-5e0b-9d34-0a1b6c2f7e10")


def write(path: Path, result: Result) -> List[str]:
    """Write the cells of a Result; nothing is to be said.

    Coordinates are in pixels from the top-left corner of the image, as QuPath has them.
    """
    with replacing(path) as file, gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed:
        write_list(packed, {"type": "FeatureCollection"}, "features", features(result))
    return []


def features(result: Result) -> Iterator[Dict[str, Any]]:
    """A GeoJSON feature for each cell, whose id is always the same for an image file and label."""
    is_folder = result.path.is_dir()
    digest = size_and_digest(result.path)[1] if is_folder else sha256_of(result.path)
    outlines = polygons(result.cells, result.labels)
    for measurements, outline in zip(properties(result), outlines):
        ring = outline.tolist()
        measurements[AREA] = measurements.pop("area")
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{digest}/{measurements['label']}")),
            "geometry": {"type": "Polygon", "coordinates": [ring + ring[:1]]},
            "properties": {"objectType": OBJECT_TYPE, "measurements": measurements},
        }
