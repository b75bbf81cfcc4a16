"""The visible part of the page: numbers at the top, charts, and the table of images.

A report is what `evaluate.report.Report` says; an entry is one image of it.
"""

import base64

from .charts import f1_against_tau, strip
from .markup import element, joined

RULES = {
    "strict": "Strict rules: a prediction that is missing, unreadable or of the wrong shape scores "
    "0, an empty one has its misses, and large images are scored whole.",
    "official": "The challenge organisers' rules, weak spots included: predictions that are "
    "missing are left out, large images are scored in tiles of 2000 pixels.",
}
MATCHING = (
    "A predicted cell is matched when its IoU with a true cell is at least τ, one to one. Cells "
    "that touch the outer 2-pixel frame of an image are not scored."
)


# Heads of columns of the table of images, and what they show of a score.
SCORE_COLUMNS = (
    ("F1", "f1"),
    ("Precision", "precision"),
    ("Recall", "recall"),
    ("True", "true_num"),
    ("Pred.", "pred_num"),
    ("TP", "correct_num"),
    ("FP", "wrong_num"),
    ("FN", "missed_num"),
    ("IoU", "mean_matched_iou"),
    ("PQ", "panoptic_quality"),
    ("Dice", "dice"),
)


def sections(report):
    """The content of the page's main element, as a list of Markup."""
    found = [_heading(report), _tiles(report)]
    if report.scores:
        found += [_groups(report), _taus(report)]
    if report.time_plot:
        found.append(_timing(report))
    found += [_images(report), _origin(report)]
    return [part for part in found if part]


def number(value, digits=3):
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def counted(count, singular):
    """`1 image`, `2 images`."""
    return f"{count:,} {singular}" + ("" if count == 1 else "s")


def _heading(report):
    failed = sum(bool(entry.problems) for entry in report.entries)
    text = f"{counted(len(report.entries), 'image')}, labels of {report.labels_name}"
    if failed:
        text += f", {failed:,} with a problem"
    lines = [element("h1", "Segmentation report"), element("p", text, class_="lead")]
    if report.scores:
        rules = f"{RULES[report.scores['rules']]} {MATCHING}"
        lines.append(element("p", rules, class_="note"))
    return element("header", *lines, class_="top")


# Numbers


def _tiles(report):
    """The most important numbers, large."""
    tiles = _score_tiles(report) if report.scores else _plain_tiles(report)
    for title, run in zip(report.run_titles(), report.runs()):
        passed = sum(image["passed"] for image in run["images"])
        tiles.append((title, f"{passed} / {len(run['images'])}", "passed"))
    return element("dl", *(_tile(*tile) for tile in tiles), class_="tiles")


def _tile(title, value, note):
    note = element("dd", note, class_="note")
    return element("div", element("dt", title), element("dd", value, class_="value"), note)


def _score_tiles(report):
    everything = report.aggregate(None, report.tau)
    pooled = everything["pooled"]
    scored = len(report.scores["images"])
    at = _at(report)
    return [
        ("Mean F1", number(everything["mean_f1"]), at),
        ("Median F1", number(everything["median_f1"]), at),
        ("Precision", number(pooled["precision"]), "of all cells pooled"),
        ("Recall", number(pooled["recall"]), "of all cells pooled"),
        ("Mean IoU", number(pooled["mean_matched_iou"]), "of all matched cells"),
        ("Scored", f"{scored - report.scores['unscorable']} / {scored}", "images"),
    ]


def _at(report):
    return f"at τ = {report.tau:g}"


def _plain_tiles(report):
    done = [entry for entry in report.entries if entry.predicted is not None]
    cells = sum(entry.predicted for entry in done)
    return [
        ("Cells", number(cells), "predicted"),
        ("Segmented", f"{len(done)} / {len(report.entries)}", "images"),
    ]


# Charts


def _groups(report):
    """F1 by group, each with its distribution; a single row where nothing is grouped."""
    rows = []
    for group in report.groups() + [None]:
        f1 = [
            entry.score["f1"]
            for entry in report.entries
            if entry.score and group in (None, entry.group)
        ]
        if f1:
            rows.append(_group_row(report.aggregate(group, report.tau), f1))
    if not rows:
        return None
    names = ("Group", "Images", "F1 of each image, mean and median", "Mean F1", "Median F1")
    names += ("Precision", "Recall", "F1, pooled")
    head = element("tr", *(element("th", name, scope="col") for name in names))
    table = element("table", element("thead", head), element("tbody", *rows), class_="groups")
    legend = (
        "Dots are images, the bar ends at their mean, the tick is their median; "
        "pooled numbers count all cells of the group together."
    )
    title = element("h2", "F1 by group" if report.groups() else "F1 of the images")
    return element("section", title, _wide(table), element("p", legend, class_="note"))


def _group_row(aggregate, f1):
    group, pooled = aggregate["group"], aggregate["pooled"]
    numbers = [aggregate["mean_f1"], aggregate["median_f1"]]
    numbers += [pooled[name] for name in ("precision", "recall", "f1")]
    return element(
        "tr",
        element("th", "All images" if group is None else group, scope="row"),
        element("td", number(aggregate["images"])),
        element("td", strip(f1)),
        *(element("td", number(value)) for value in numbers),
        class_="total" if group is None else None,
    )


def _taus(report):
    """F1 against tau, when there are several."""
    taus = sorted(report.scores["taus"])
    if len(taus) < 2:
        return None
    lines = {}
    for group in [None] + report.groups():
        points = [(tau, report.aggregate(group, tau)["mean_f1"]) for tau in taus]
        known = [point for point in points if point[1] is not None]
        if known:
            lines["All images" if group is None else group] = known
    if not lines:
        return None
    title = element("h2", "Mean F1 against τ")
    chart = element("div", _wide(f1_against_tau(lines)), _tau_table(report, taus), class_="beside")
    return element("section", title, chart)


def _tau_table(report, taus):
    names = ("mean_f1", "median_f1")
    pooled_names = ("precision", "recall", "average_precision", "panoptic_quality")
    titles = ("τ", "Mean F1", "Median F1", "Precision", "Recall", "AP", "PQ")
    rows = []
    for tau in taus:
        found = report.aggregate(None, tau)
        values = [found[name] for name in names] + [found["pooled"][name] for name in pooled_names]
        cells = (element("td", number(value)) for value in values)
        rows.append(element("tr", element("th", f"{tau:g}", scope="row"), *cells))
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    table = element("table", element("thead", head), element("tbody", *rows), class_="taus")
    note = "All images; precision, recall, average precision TP / (TP + FP + FN) and panoptic "
    note += "quality of all cells pooled."
    return element("div", _wide(table), element("p", note, class_="note"))


def _timing(report):
    """The plot of times, as an image of its own: its styles and names stay inside."""
    data = base64.b64encode(report.time_plot.encode("utf-8")).decode("ascii")
    plot = element(
        "img",
        src="data:image/svg+xml;base64," + data,
        alt="Time against image size with the limit; the numbers are in the table of images",
        class_="plot",
    )
    return element("section", element("h2", "Time"), plot, _machine(report.times))


def _machine(times):
    machine = times["machine"]
    parts = [machine.get("processor"), f"{machine['cores']} cores", machine.get("gpu") or "no GPU"]
    parts.append(f"{machine['memory_bytes'] / 2**30:.0f} GiB memory")
    text = f"{', '.join(filter(None, parts))}; each image timed {times['repeat']} × by "
    return element("p", text, element("code", times["command"]), class_="note")


# Table of images


def _images(report):
    columns = _columns(report)
    head = element("tr", *(_header(title, kind) for title, kind, _ in columns))
    body = [
        element("tr", *(_cell(value(entry), kind) for _, kind, value in columns))
        for entry in report.entries
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="sortable")
    hint = "Click a heading to sort, an image to look at it."
    if report.scores:
        hint += f" Scores {_at(report)}. TP matched, FP false positive, FN missed; IoU: mean of"
        hint += " matched cells; PQ: panoptic quality; Dice: of all foreground pixels."
    note = element("p", hint, class_="note")
    return element("section", element("h2", "Images"), note, _wide(table))


def _columns(report):
    """(title, kind, value of an entry) of each column; kinds: image, text, number.

    A value is (what it is sorted by, what is shown), or None.
    """
    columns = [("Image", "image", _name)]
    if any(entry.problems or entry.remarks for entry in report.entries):
        columns.append(("State", "text", _state))
    if report.groups():
        columns.append(("Group", "text", lambda entry: (entry.group or "", entry.group or "")))
    if report.scores:
        columns += [(title, "number", _score_of(name)) for title, name in SCORE_COLUMNS]
    else:
        columns.append(("Cells", "number", lambda entry: _shown(entry.predicted)))
    for index, title in enumerate(report.run_titles()):
        columns += [
            (title.replace("Time", "Seconds"), "number", _time_of(index, "median_seconds")),
            (title.replace("Time", "Of limit"), "number", _time_of(index, "share")),
        ]
    columns.append(("Pixels", "number", _pixels))
    return columns


def _score_of(name):
    return lambda entry: _shown(entry.score[name]) if entry.score else None


def _time_of(index, name):
    return lambda entry: _shown(entry.times[index][name], 2) if entry.times[index] else None


def _shown(value, digits=3):
    return None if value is None else (value, number(value, digits))


def _pixels(entry):
    if entry.height is None:
        return None
    return entry.height * entry.width, f"{entry.width} × {entry.height}"


def _name(entry):
    """The image's name, a button with its thumbnail where there is something to look at, and what
    there is to say of it."""
    thumbnail = element("span", class_="thumbnail", data_thumbnail=entry.thumbnail)
    name = element("span", entry.name, class_="name", title=entry.name)
    if entry.overlay is None:
        opener = element("span", thumbnail, name, class_="closed")
    else:
        place = {"data_image": entry.index, "class_": "open"}
        opener = element("button", thumbnail, name, type="button", **place)
    problems = [element("p", text, class_="problem") for text in entry.problems]
    remarks = [element("p", text, class_="remark") for text in entry.remarks]
    return entry.name, joined([opener, *problems, *remarks])


def _state(entry):
    """Sorted so that failed ones come first."""
    if entry.problems:
        return "0", element("span", "problem", class_="problem")
    return ("1", "remark") if entry.remarks else ("2", "")


def _header(title, kind):
    button = element("button", title, type="button")
    return element("th", button, scope="col", aria_sort="none", class_=kind)


def _cell(value, kind):
    key, shown = ("", "–") if value is None else value
    return element("td", shown, data_value=key, class_=kind)


def _wide(content):
    """A table or chart that is scrolled sideways where the screen is narrow."""
    return element("div", content, class_="wide", tabindex="0")


def _origin(report):
    """Where the numbers come from: arguments and versions, folded away."""
    rows = [element(tag, text) for fact in report.origin for tag, text in zip(("dt", "dd"), fact)]
    title = element("summary", "How this report was made")
    return element("section", element("details", title, element("dl", *rows, class_="facts")))
