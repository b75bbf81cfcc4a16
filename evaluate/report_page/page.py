"""The page as one text: the templates, style and scripts beside this file, filled with a report."""

import base64
import hashlib
import os
from pathlib import Path
from typing import Optional, Union
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import charts
from .contents import Report
from .folder import GENERATOR
from .pictures import TILE
from .table import table

FOLDER = Path(__file__).parent
SCRIPTS = ("table.js", "outlines.js", "picture.js", "viewer.js")


def page(report: Report, files: Path) -> str:
    """The text of the page of an `evaluate.report.Report`.

    files: the folder of its files, in a folder beside the page. Whatever the report holds is text
    in it: names that look like HTML stay what they are. ValueError: a NaN among the data of the
    table, which is no JSON.
    """
    environment = templates(FOLDER)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    settings = {
        "files": quote(os.fsencode(f"{files.parent.name}/{files.name}")),
        "tile": TILE,
        "mostUncertainty": report.most_uncertainty,
    }
    lines, runs = report.f1_by_tau(), report.runs()
    return environment.get_template("template.html").render(
        report=report,
        strip=charts.strip,
        most_dots=charts.DOTS,
        f1_against_tau=charts.f1_against_tau(lines) if lines else None,
        seconds_against_size=charts.seconds_against_size(runs) if runs else None,
        distributions=[one for one in report.distributions.values() if one.counts.any()],
        table=table(report),
        settings=settings,
        generator=GENERATOR,
        policy=policy(style, script),
        style=style,
        script=script,
    )


def templates(folder: Path) -> Environment:
    """The templates of pages in a folder, into which values come as text."""
    environment = Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number)
    return environment


def number(value: Optional[Union[int, float]], digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def policy(style: str, script: str) -> str:
    """What the browser is told to allow: this style, this script with the scripts that it adds, and
    images from the page's own place or from disk (where for Firefox no place is a page's own).

    So whatever got into the page, nothing of it runs and nothing is fetched from the network.
    """
    rules = ["default-src 'none'", "img-src 'self' file:", "base-uri 'none'", "form-action 'none'"]
    for name, text, more in (("style-src", style, ""), ("script-src", script, " 'strict-dynamic'")):
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        rules.append(f"{name} 'sha256-{digest}'{more}")
    return "; ".join(rules)
