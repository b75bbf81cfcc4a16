"""Regions of interest as ImageJ and Fiji read them: NAME_rois.zip, an outline for each cell."""

import zipfile
from pathlib import Path
from typing import List

import numpy as np
from roifile import ImagejRoi

from app.atomic import replacing
from app.exports import Result
from app.exports.polygons import polygons

LOOKS = False
MOST = 60536  # pixels: what lies beyond, the format tells in whole numbers of 16 bits no more


def write(path: Path, result: Result) -> List[str]:
    """Write the cells of a Result, each named by its label.

    Coordinates are in pixels from the top-left corner of the image, as ImageJ has them. Returns a
    warning where the image is too large for them.
    """
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for label, polygon in enumerate(polygons(result.cells, result.labels), 1):
            roi = ImagejRoi.frompoints(polygon.astype(np.float32), name=str(label))
            entry = zipfile.ZipInfo(f"{label}.roi")  # a name alone would add the time of day
            archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)
    if max(result.labels.shape) <= MOST:
        return []
    return [f"ImageJ's regions of interest end at {MOST} pixels: those beyond are misplaced"]
