"""Figures of the evaluator, drawn by matplotlib without a screen."""

import io
from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy.stats import halfnorm

from app.cells import UNCERTAINTY_SCALE

from .protocol import limit_seconds

STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: small, and searchable in the report
    "svg.hashsalt": "evaluate",  # the same figure gives the same file
}
# Told apart with any colour vision (Okabe and Ito's palette), and by their markers.
PASSED = {"color": "#0072b2", "marker": "o", "markersize": 4, "zorder": 3}
FAILED = {"color": "#d55e00", "marker": "X", "markersize": 7, "zorder": 4}
SIDES = {
    "top": {"color": "#0072b2", "marker": "o"},
    "right": {"color": "#e69f00", "marker": "s"},
    "bottom": {"color": "#009e73", "marker": "^"},
    "left": {"color": "#cc79a7", "marker": "D"},
}
LINE = {True: "-", False: "--"}  # AMP on, off
GID = {True: "amp-on", False: "amp-off"}  # ids in the SVG
MARGIN = 1.6  # factor by which the axes go beyond the values
INK = "#333333"


def log_axes(width: float, height: float) -> Tuple[Figure, Axes]:
    """A new figure of a size in inches, and its only axes, both logarithmic."""
    figure = Figure(figsize=(width, height), constrained_layout=True)
    return figure, figure.add_subplot(xscale="log", yscale="log")


def plot_times(runs: List[dict]) -> Figure:
    """The paper's figure 6: time against the equivalent size sqrt(height * width), log-log.

    runs: of times.json. Returns a matplotlib Figure. A line runs through the median at each size;
    images without a time (unreadable ones) are left out.
    """
    with rc_context(STYLE):
        figure, axes = log_axes(6.4, 4.2)
        for timed in runs:
            draw_run(axes, timed, name_of_run(timed["amp"], len(runs)))
        sides = [np.sqrt(image["pixels"]) for timed in runs for image in timed_images(timed)]
        draw_limit(axes, sides or [1000.0])
        finish(
            axes, "equivalent image size √(height · width) in pixels", "seconds from start to exit"
        )
        add_legend(axes)
    return figure


def name_of_run(amp: bool, count: int) -> str:
    """What the legend calls a run, of `count` runs."""
    if count == 1:
        return "time"
    return "AMP on" if amp else "AMP off"


def timed_images(timed: dict) -> List[dict]:
    """The images of one run that have a time."""
    return [image for image in timed["images"] if image["seconds"]]


def draw_run(axes: Axes, timed: dict, name: str) -> None:
    """The line and the points of one run."""
    images, amp = timed_images(timed), timed["amp"]
    side = np.sqrt([image["pixels"] for image in images])
    seconds = np.array([image["median_seconds"] for image in images])
    passed = np.array([image["passed"] for image in images], bool)
    at = np.unique(side)
    middle = [np.median(seconds[side == x]) for x in at]
    axes.plot(at, middle, LINE[amp], color=INK, linewidth=1.2, label=name, gid=GID[amp])
    for chosen, look in ((passed, PASSED), (~passed, FAILED)):
        if chosen.any():
            face = look["color"] if amp else "white"
            axes.plot(side[chosen], seconds[chosen], ls="none", markerfacecolor=face, **look)


def draw_limit(axes: Axes, sides: Sequence[float]) -> None:
    """The time limit over a range somewhat wider than these equivalent sizes."""
    least, most = min(sides) / MARGIN, max(sides) * MARGIN
    x = np.geomspace(least, most, 200)
    y = [limit_seconds(side**2) for side in x]
    axes.plot(x, y, ":", color=INK, linewidth=1.6, label="time limit", gid="limit")
    axes.set_xlim(least, most)
    lowest, highest = axes.dataLim.intervaly
    axes.set_ylim(lowest / MARGIN, highest * MARGIN)


def finish(axes: Axes, x: str, y: str) -> None:
    """Grid, numbers of the logarithmic axes, and their titles."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def add_legend(axes: Axes) -> None:
    """What the lines and points are, above the axes, where it covers nothing."""
    points = [Line2D([], [], ls="none", **look) for look in (PASSED, FAILED)]
    lines, names = axes.get_legend_handles_labels()
    names += ["passed", "failed"]
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncol": len(names)}
    axes.legend(lines + points, names, frameon=False, columnspacing=1.3, **place)


def plot_reliability(sides: dict) -> Figure:
    """Mean |error| of box sides against their mean delta, bin by bin, log-log.

    sides: of `uncertainty.analyse`. The bars are the intervals of all sides together.
    """
    with rc_context(STYLE):
        figure, axes = log_axes(4.8, 4.2)
        for side, look in SIDES.items():
            axes.plot(
                *reliability(sides[side])[:2], linewidth=0.8, markersize=4, label=side, **look
            )
        delta, error, low, high = reliability(sides["all"])
        bars = (error - low, high - error)
        axes.errorbar(delta, error, bars, color=INK, capsize=2, label="all sides")
        reach = np.array([min([0.5, *delta[delta > 0] * 0.8]), UNCERTAINTY_SCALE * 1.1])
        axes.plot(reach, reach * halfnorm.mean(), ":", color=INK, label="normal distribution")
        axes.set_xlim(reach)
        finish(axes, "mean δ in pixels", "mean |predicted − true side| in pixels")
        axes.legend(frameon=False)
    return figure


def reliability(side: dict) -> np.ndarray:
    """delta, error, low, high (bins,) of one of the sides."""
    bins = side["reliability"]
    errors = [[b["error"][name] for b in bins] for name in ("value", "low", "high")]
    return np.array([[b["delta"] for b in bins], *errors], float)  # None is NaN


def svg_text(figure: Figure) -> str:
    """A figure as the text of an <svg> element, to be written to a file or put into a page."""
    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def save(figure: Figure, path: Path) -> None:
    """A figure as PATH.png and PATH.svg."""
    with rc_context(STYLE):
        figure.savefig(f"{path}.png", format="png", dpi=200)
    Path(f"{path}.svg").write_text(svg_text(figure), encoding="utf-8")
