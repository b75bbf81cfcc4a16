"""Where the marks of the charts lie; charts.html draws them.

A chart is a dict: rows [(y, text)] and columns [(x, text)] of its grid, x_title, y_title, legend
(names by the class of their marks), and marks: bars (x, y, width, height, text), lines (class,
pieces [((x, y), (x, y)), ...]) and dots (class, x, y, text). Places are in per cent of the chart's
width and height, from its top-left corner: so a chart fills its column, and its texts do not grow.
"""

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Sequence, Tuple

import numpy as np

from ..protocol import limit_seconds

SERIES = 7  # classes of lines, in style.css
DOTS = 400  # of a strip, at most
STEPS = (1, 2, 5)  # of numbers on an axis, times powers of ten
MARGIN = 1.4  # factor by which axes of times go beyond the values
LIMIT_POINTS = 40  # of the line of the time limit


def ladder(low: float, high: float) -> List[float]:
    """1, 2, 5, 10, 20 ... and 0.5, 0.2 ..., as far as they lie from low to high, both above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = (float(f"{step}e{power}") for power in powers for step in STEPS)
    return [value for value in found if low <= value <= high]


def short(value: float) -> str:
    """A number for an axis: 0.5, 20, 300, 4k, 5M."""
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def per_cent(share: float) -> float:
    """A share from 0 to 1 in per cent, as precise as screens are."""
    return round(100 * share, 2)


def linear(low: float, high: float) -> Callable[[float], float]:
    """Where a value lies between two others, in per cent."""
    return lambda value: per_cent((value - low) / (high - low))


def logarithmic(low: float, high: float) -> Callable[[float], float]:
    """As `linear`, on a logarithmic axis."""
    return lambda value: per_cent(math.log(value / low) / math.log(high / low))


def empty_chart(x_title: str, y_title: str) -> dict:
    """A chart without marks."""
    names = ("rows", "columns", "bars", "lines", "dots")
    return {"x_title": x_title, "y_title": y_title, "legend": {}, **{name: [] for name in names}}


def pieces(points: List[tuple]) -> List[tuple]:
    """The pieces of the line through some points."""
    return list(zip(points, points[1:]))


# Distributions


@dataclass
class Distribution:
    """How often values of cells were met: a histogram that grows, whatever the number of cells.

    edges (n + 1,): of its bins, ascending; values beyond them count in the outer bins. marks:
    values that are written at the axis. is_logarithmic: the bins are equally wide on such an axis.
    """

    title: str
    x_title: str
    edges: np.ndarray
    marks: Sequence[float]
    is_logarithmic: bool = False
    counts: np.ndarray = field(init=False)

    def __post_init__(self):
        self.counts = np.zeros(len(self.edges) - 1, np.int64)

    def add(self, values: Sequence[float]) -> None:
        """Count values (k,)."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        self.counts += np.histogram(inside, self.edges)[0]

    def chart(self) -> dict:
        """The histogram; bins without cells at the ends of a logarithmic axis are left out."""
        chart = empty_chart(self.x_title, "cells")
        first, last = 0, len(self.counts)
        if self.is_logarithmic:
            known = np.flatnonzero(self.counts)
            first, last = max(0, known[0] - 1), min(last, known[-1] + 2)
        x = (logarithmic if self.is_logarithmic else linear)(self.edges[first], self.edges[last])
        most = int(self.counts.max())
        y = linear(1.05 * most, 0)
        for left, right, count in zip(
            self.edges[first:last], self.edges[first + 1 :], self.counts[first:last].tolist()
        ):
            text = f"{left:.3g} to {right:.3g}: {count:,} cells"
            width, height = round(x(right) - x(left), 2), round(100 - y(count), 2)
            chart["bars"].append((x(left), y(count), width, height, text))
        step = max(1, ladder(max(1, most) / 5, max(1, most))[0])
        chart["rows"] = [(y(value), short(value)) for value in np.arange(0, most + 1, step)]
        marks = [mark for mark in self.marks if self.edges[first] <= mark <= self.edges[last]]
        chart["columns"] = [(x(mark), short(mark)) for mark in marks]
        return chart


def distributions() -> Dict[str, Distribution]:
    """Those of a report, empty: of the cells' sizes, scores and uncertainties."""
    shares, tenths = np.linspace(0, 1, 41), np.linspace(0, 1, 6)
    diameters = 2 ** np.arange(0, 14.01, 0.25)
    size = "diameter of a disc of the cell's area, in pixels"
    uncertainty = "mean of the four sides: 0 certain, 1 not"
    return {
        "size": Distribution("Size", size, diameters, ladder(1, 10**4), is_logarithmic=True),
        "score": Distribution("Score", "score of the cell", shares, tenths),
        "uncertainty": Distribution("Uncertainty", uncertainty, shares, tenths),
    }


def strip(values: Sequence[float]) -> List[Tuple[float, float]]:
    """(x, y) of a dot for each of some F1, in per cent; of more than DOTS, as many of all ranks.

    Heights follow the golden ratio, which spreads them evenly: equal values do not hide each other.
    """
    ranks = np.linspace(0, len(values) - 1, min(len(values), DOTS)).astype(int)
    chosen = np.sort(values)[ranks]
    return [
        (per_cent(value), per_cent(0.2 + 0.6 * (number * 0.618034 % 1)))
        for number, value in enumerate(chosen.tolist())
    ]


# F1 and times


def f1_against_tau(lines: Dict[str, List[Tuple[float, float]]]) -> dict:
    """The chart of mean F1 over tau.

    lines: {name: [(tau, F1), ...], two or more with tau ascending}.
    """
    chart = empty_chart("τ, least IoU of a match", "mean F1")
    taus = sorted({tau for points in lines.values() for tau, _ in points})
    x, y = linear(taus[0], taus[-1]), linear(1, 0)
    chart["rows"] = [(y(step / 5), f"{step / 5:.1f}") for step in range(6)]
    chart["columns"] = [(x(tau), f"{tau:g}") for tau in taus[:: -(-len(taus) // 8)]]
    for number, (name, points) in enumerate(lines.items()):
        look = f"series-{(number - 1) % SERIES}" if number else "all"
        places = [(x(tau), y(f1)) for tau, f1 in points]
        chart["lines"].append((look, pieces(places)))
        for place, (tau, f1) in zip(places, points):
            chart["dots"].append((look, *place, f"{name}: {f1:.3f} at τ = {tau:g}"))
        chart["legend"].setdefault(look, []).append(name)
    return chart


def seconds_against_size(runs: Dict[str, dict]) -> dict:
    """The paper's figure 6: time against the equivalent size, both logarithmic.

    runs: {title: run of times.json}. A line runs through the median at each size; images without a
    time (unreadable ones) are left out.
    """
    chart = empty_chart("equivalent image size √(height · width) in pixels", "seconds")
    timed = {name: [i for i in run["images"] if i["seconds"]] for name, run in runs.items()}
    images = [image for found in timed.values() for image in found]
    if not images:
        return chart
    sides = [math.sqrt(image["pixels"]) for image in images]
    left, right = min(sides) / MARGIN, max(sides) * MARGIN
    limits = [(side, limit_seconds(side**2)) for side in np.geomspace(left, right, LIMIT_POINTS)]
    seconds = [image["median_seconds"] for image in images] + [limit for _, limit in limits]
    low, high = min(seconds) / MARGIN, max(seconds) * MARGIN
    x, y = logarithmic(left, right), logarithmic(high, low)
    chart["rows"] = [(y(value), short(value)) for value in ladder(low, high)]
    chart["columns"] = [(x(value), short(value)) for value in ladder(left, right)]
    chart["lines"].append(("limit", pieces([(x(side), y(limit)) for side, limit in limits])))
    chart["legend"]["limit"] = ["time limit"]
    for number, (name, found) in enumerate(timed.items()):
        chart["legend"][f"run-{number}"] = [name]
        places = [(x(side), y(median)) for side, median in medians(found)]
        chart["lines"].append((f"run-{number}", pieces(places)))
        for image in found:
            look = f"run-{number}" if image["passed"] else f"run-{number} failed"
            place = x(math.sqrt(image["pixels"])), y(image["median_seconds"])
            text = f"{image['name']}: {image['median_seconds']:.2f} s"
            chart["dots"].append((look, *place, text))
    if not all(image["passed"] for image in images):
        chart["legend"]["failed"] = ["over the limit, or failed"]
    return chart


def medians(images: List[dict]) -> List[Tuple[float, float]]:
    """(equivalent size, median seconds) at each size of the images of times.json, ascending."""
    by_size = {}
    for image in images:
        by_size.setdefault(image["pixels"], []).append(image["median_seconds"])
    return [(math.sqrt(p), float(np.median(found))) for p, found in sorted(by_size.items())]
