"""Tables as text."""

import math
from typing import Iterable, Sequence

from tabulate import tabulate

from app.names import shown


def text_table(header: Sequence[str], rows: Iterable[Sequence], style: str = "plain") -> str:
    """Rows of values under a header, as text.

    style: tabulate's name of a layout. "plain" is for the screen: the first column to the left, the
    others to the right. "github" is Markdown, all to the left. Fractions are shown to 4 decimals,
    NaN as a dash, yes and no as ✓ and ×.
    """
    lines = [header, *(map(_text, row) for row in rows)]
    others = "right" if style == "plain" else "left"
    return tabulate(
        lines,
        headers=() if style == "plain" else "firstrow",  # as headers they would be padded
        tablefmt=style,
        disable_numparse=True,  # a name such as 1e5 is text
        colalign=["left"] + [others] * (len(header) - 1),
    )


def _text(value):
    if isinstance(value, bool):
        return "✓" if value else "×"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return shown(str(value))
