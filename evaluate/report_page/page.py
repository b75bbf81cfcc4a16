"""The page as one text: the templates, style and scripts beside this file, filled with a report."""

import base64
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Union

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .charts import f1_against_tau

if TYPE_CHECKING:  # which imports this module
    from ..report import Entry, Report

FOLDER = Path(__file__).parent
SCRIPTS = ("table.js", "outlines.js", "viewer.js")
MOST_UNCERTAINTY = 99  # percentile; uncertainties above it look all the same


def page(report: "Report") -> str:
    """The text of the page of an `evaluate.report.Report`.

    Whatever the report holds is text in it: names that look like HTML stay what they are.
    ValueError: a NaN among the data of the viewer, which is no JSON.
    """
    environment = Environment(
        loader=FileSystemLoader(str(FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, base64=base64_of)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    shown = [entry for entry in report.entries if entry.overlay]
    lines = report.f1_by_tau()
    return environment.get_template("template.html").render(
        report=report,
        chart=f1_against_tau(lines) if lines else None,
        shown=shown,
        most_uncertainty=most_uncertainty(shown),
        policy=policy(style, script),
        style=style,
        script=script,
    )


def number(value: Optional[Union[int, float]], digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def base64_of(text: str) -> str:
    """A text as UTF-8 in base64."""
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


def policy(style: str, script: str) -> str:
    """What the browser is told to allow: this style and script and images inside, nothing else.

    So whatever got into the page, nothing of it runs and nothing is fetched.
    """
    rules = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    for name, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        rules.append(f"{name} 'sha256-{digest}'")
    return "; ".join(rules)


def most_uncertainty(entries: List["Entry"]) -> float:
    """The uncertainty at the end of the colour scale, the same for all images: 0.05, 0.1, ..."""
    predictions = [entry.overlay.get("prediction", {}) for entry in entries]
    kept = [np.ravel(cells["uncertainties"]) for cells in predictions if "uncertainties" in cells]
    values = np.concatenate([np.zeros(0), *kept])
    most = np.percentile(values, MOST_UNCERTAINTY) if len(values) else 1.0
    return max(1, math.ceil(most * 20)) / 20
