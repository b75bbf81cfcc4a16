"""The curve of a run, for its page."""

from typing import Sequence, Tuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from evaluate.plots import INK, PASSED, STYLE, svg_text


def as_svg(curve: Sequence[Tuple[float, float]]) -> str:
    """The mean F1 of the validation images over minutes of training, as text to put into HTML."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 2.8), constrained_layout=True)
        axes = figure.add_subplot(xlabel="minutes of training", ylabel="mean F1", ylim=(0, 1.02))
        axes.plot(*zip(*curve), **{**PASSED, "color": INK})
        axes.grid(color="#dddddd", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return svg_text(figure)
