"""The page as one text: template, style and scripts, filled with a report."""

import base64
import hashlib
import math
from pathlib import Path
from string import Template

import numpy as np

from .markup import data_block, element, joined
from .summary import sections

FOLDER = Path(__file__).parent
SCRIPTS = ("table.js", "outlines.js", "viewer.js")
MOST_UNCERTAINTY = 99  # percentile; uncertainties above it look all the same


def page(report):
    """The text of the page."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    shown = [entry for entry in report.entries if entry.overlay]
    template = Template((FOLDER / "template.html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=policy(style, script),
        title=element("title", f"{report.labels_name}: segmentation report"),
        style=style,
        summary=joined(sections(report)),
        settings=data_block("settings", {"mostUncertainty": most_uncertainty(shown)}),
        images="\n".join(data_block(f"image-{entry.index}", entry.overlay) for entry in shown),
        script=script,
    )


def policy(style, script):
    """What the browser is told to allow: this style and script and images inside, nothing else.

    So whatever got into the page, nothing of it runs and nothing is fetched.
    """
    rules = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    for name, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        rules.append(f"{name} 'sha256-{digest}'")
    return "; ".join(rules)


def most_uncertainty(entries):
    """The uncertainty at the end of the colour scale, the same for all images: 0.05, 0.1, ..."""
    kept = [
        np.ravel(entry.overlay["prediction"]["uncertainties"])
        for entry in entries
        if "uncertainties" in entry.overlay.get("prediction", {})
    ]
    values = np.concatenate(kept) if kept else np.zeros(0)
    most = np.percentile(values, MOST_UNCERTAINTY) if len(values) else 1.0
    return max(1, math.ceil(most * 20)) / 20
