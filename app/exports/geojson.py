"""GeoJSON as QuPath reads it: NAME.geojson.gz, a feature for each cell."""

import gzip
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, List

from app.atomic import replacing
from app.cells import COLUMNS, measure
from app.digests import sha256_of
from app.exports import Result
from app.exports.polygons import CORNER, DECIMALS, polygons
from app.exports.streams import write_list

LOOKS = False
# Whether they are whole cells or nuclei the network does not say; QuPath measures both alike.
OBJECT_TYPE = "detection"
COMPRESSION = 2  # of 1 to 9: more takes most of the time and saves little
MEASURED = ("label", "area", "score", *(c for c in COLUMNS if c.startswith("uncertainty_")))
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
    digest = sha256_of(result.path)
    cells, areas = result.cells, measure(result.labels, len(result.cells)).area
    for row, polygon in enumerate(polygons(cells, result.labels)):
        ring = (polygon + CORNER).round(DECIMALS).tolist()
        uncertain = cells.uncertainties[row].round(5).tolist()
        values = (row + 1, int(areas[row]), round(float(cells.scores[row]), 5), *uncertain)
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{digest}/{row + 1}")),
            "geometry": {"type": "Polygon", "coordinates": [ring + ring[:1]]},
            "properties": {"objectType": OBJECT_TYPE, "measurements": dict(zip(MEASURED, values))},
        }
