"""Figures of the evaluator, drawn by matplotlib without a screen."""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .protocol import limit_seconds

STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: small, and searchable in the report
    "svg.hashsalt": "evaluate",  # the same figure gives the same file
}
# Told apart with any colour vision (Okabe and Ito's palette), and by their markers.
PASSED = {"color": "#0072b2", "marker": "o", "markersize": 4, "zorder": 3}
FAILED = {"color": "#d55e00", "marker": "X", "markersize": 7, "zorder": 4}
LINE = {True: "-", False: "--"}  # AMP on, off
GID = {True: "amp-on", False: "amp-off"}  # ids in the SVG
MARGIN = 1.6  # factor by which the axes go beyond the values
INK = "#333333"


def plot_times(runs):
    """The paper's figure 6: time against the equivalent size sqrt(height * width), log-log.

    runs: of times.json. Returns a matplotlib Figure. A line runs through the median at each size;
    images without a time (unreadable ones) are left out.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), constrained_layout=True)
        axes = figure.add_subplot(xscale="log", yscale="log")
        for timed in runs:
            draw_run(axes, timed, name_of_run(timed["amp"], len(runs)))
        sides = [np.sqrt(image["pixels"]) for timed in runs for image in timed_images(timed)]
        draw_limit(axes, sides or [1000.0])
        draw_frame(axes)
    return figure


def name_of_run(amp, count):
    if count == 1:
        return "time"
    return "AMP on" if amp else "AMP off"


def timed_images(timed):
    """The images of one run that have a time."""
    return [image for image in timed["images"] if image["seconds"]]


def draw_run(axes, timed, name):
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


def draw_limit(axes, sides):
    """The time limit over a range somewhat wider than these equivalent sizes."""
    least, most = min(sides) / MARGIN, max(sides) * MARGIN
    x = np.geomspace(least, most, 200)
    y = [limit_seconds(side**2) for side in x]
    axes.plot(x, y, ":", color=INK, linewidth=1.6, label="time limit", gid="limit")
    axes.set_xlim(least, most)
    lowest, highest = axes.dataLim.intervaly
    axes.set_ylim(lowest / MARGIN, highest * MARGIN)


def draw_frame(axes):
    """Axes, grid and legend."""
    axes.set_xlabel("equivalent image size √(height · width) in pixels")
    axes.set_ylabel("seconds from start to exit")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    points = [Line2D([], [], ls="none", **look) for look in (PASSED, FAILED)]
    lines, names = axes.get_legend_handles_labels()
    names += ["passed", "failed"]
    # Above the axes, where it covers nothing.
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncol": len(names)}
    axes.legend(lines + points, names, frameon=False, columnspacing=1.3, **place)


def svg_text(figure):
    """A figure as the text of an <svg> element, to be written to a file or put into a page."""
    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def save_png(figure, path):
    """A figure as a PNG file."""
    with rc_context(STYLE):
        figure.savefig(str(path), format="png", dpi=200)
