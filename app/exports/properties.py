"""What formats with room for numbers say of each cell."""

from typing import Dict, Iterator, Union

import numpy as np

from app.cells import COLUMNS, measure
from app.exports import Result

_NAMES = ("score", *(name for name in COLUMNS if name.startswith("uncertainty_")))


def properties(result: Result) -> Iterator[Dict[str, Union[int, float]]]:
    """Label, area in pixels, score and uncertainties of each cell."""
    cells, areas = result.cells, measure(result.labels, len(result.cells)).area
    rows = np.column_stack([cells.scores, cells.uncertainties]).astype(np.float64).round(5)
    for label, (area, row) in enumerate(zip(areas, rows), 1):
        yield {"label": label, "area": int(area), **dict(zip(_NAMES, row.tolist()))}
