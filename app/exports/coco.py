"""COCO: NAME_coco.json, a mask by runs of pixels, a box and a score for each cell."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects

from app.atomic import replacing
from app.exports import Result
from app.exports.streams import write_list

LOOKS = False
IMAGE, CELL = 1, 1  # ids of the one image and of the one category


def write(path: Path, result: Result) -> List[str]:
    """Write the cells of a Result; nothing is to be said.

    The id of an annotation is the label.
    """
    height, width = result.labels.shape
    image = {"id": IMAGE, "file_name": result.path.name, "height": height, "width": width}
    others = {"images": [image], "categories": [{"id": CELL, "name": "cell"}]}
    with replacing(path) as file:
        write_list(file, others, "annotations", annotations(result))
    return []


def annotations(result: Result) -> Iterator[Dict[str, Any]]:
    """A COCO annotation for each cell, of its pixels in the label image."""
    height, width = result.labels.shape
    for label, (rows, columns) in enumerate(find_objects(result.labels), 1):
        mask = result.labels[rows, columns] == label
        counts = run_lengths(mask, (rows.start, columns.start), (height, width))
        packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        yield {
            "id": label,
            "image_id": IMAGE,
            "category_id": CELL,
            "segmentation": {"size": [height, width], "counts": packed["counts"].decode()},
            "area": int(mask.sum()),
            "bbox": [columns.start, rows.start, mask.shape[1], mask.shape[0]],
            "iscrowd": 0,
            "score": round(float(result.cells.scores[label - 1]), 5),
        }


def run_lengths(mask: np.ndarray, corner: Tuple[int, int], shape: Tuple[int, int]) -> List[int]:
    """The runs of an image of this shape (H, W) that is empty but for a mask (h, w) at a corner.

    corner: its first row and column. By columns, empty pixels first, as COCO has it.
    """
    columns = np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8)
    column, row = np.nonzero(np.diff(columns, axis=1))
    at = (column + corner[1]) * shape[0] + row + corner[0]
    starts, ends = at[::2], at[1::2]
    joined = starts[1:] == ends[:-1]  # from the last row of a column to the first of the next
    starts, ends = starts[np.r_[True, ~joined]], ends[np.r_[~joined, True]]
    edges = np.stack([starts, ends], axis=1).ravel()
    return np.diff(np.r_[0, edges, shape[0] * shape[1]]).tolist()
