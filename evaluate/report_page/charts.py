"""The page's own charts, as SVG: colours and fonts are in style.css, by class."""

from .markup import element

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 34, 150, 10, 40  # margins; names of lines stand in the right one
LINE = 15  # least distance between names, in the same units
STRIP_WIDTH, STRIP_HEIGHT = 340, 26
COLOURS = 7  # of lines, in style.css


def f1_against_tau(lines):
    """Mean F1 over tau. lines: {name: [(tau, F1), ...] ascending}, the first is drawn strongest."""
    taus = sorted({tau for points in lines.values() for tau, _ in points})
    place = _scales(taus[0], taus[-1])
    classes = ["all"] + [f"series-{k % COLOURS}" for k in range(len(lines) - 1)]
    drawn = [_line(points, place, name) for points, name in zip(lines.values(), classes)]
    return element(
        "svg",
        *_grid(taus, place),
        *reversed(drawn),
        *_names(lines, place, classes),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="chart",
        role="img",
        aria_label="Mean F1 against tau, the least IoU of a match; the numbers are in the table",
    )


def strip(values):
    """A row of a chart: a dot for each of some F1, a bar to their mean, a tick at their median."""
    ordered = sorted(values)
    count = len(ordered)
    mean = sum(ordered) / count
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    middle = STRIP_HEIGHT / 2

    def x(value):
        return round(4 + value * (STRIP_WIDTH - 8), 1)

    dots = [
        element("circle", cx=x(value), cy=middle + _jitter(k), r=2.5, class_="dot")
        for k, value in enumerate(ordered)
    ]
    return element(
        "svg",
        element("rect", x=4, y=0, width=STRIP_WIDTH - 8, height=STRIP_HEIGHT, class_="track"),
        element("rect", x=4, y=0, width=x(mean) - 4, height=STRIP_HEIGHT, class_="bar"),
        *dots,
        element("path", d=f"M{x(median)} 0V{STRIP_HEIGHT}", class_="median"),
        viewBox=f"0 0 {STRIP_WIDTH} {STRIP_HEIGHT}",
        class_="strip",
        aria_hidden="true",
    )


def _jitter(k):
    """A height for the k-th dot, so that equal values do not hide each other: -7..7, even."""
    return round(14 * (k * 0.618034 % 1) - 7, 1)


def _scales(first, last):
    """(tau, F1) → x, y of the chart."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(tau, f1):
        x = LEFT + width * (tau - first) / (last - first)
        return round(x, 1), round(TOP + height * (1 - f1), 1)

    return place


def _grid(taus, place):
    """Lines and numbers of both axes."""
    right = WIDTH - RIGHT
    for step in range(6):
        _, y = place(taus[0], step / 5)
        yield element("path", d=f"M{LEFT} {y}H{right}", class_="grid")
        yield element("text", f"{step / 5:.1f}", x=LEFT - 8, y=y + 4, text_anchor="end")
    for tau in taus[:: -(-len(taus) // 10)]:
        x, bottom = place(tau, 0)
        yield element("path", d=f"M{x} {bottom}v5", class_="grid")
        yield element("text", f"{tau:g}", x=x, y=bottom + 19, text_anchor="middle")
    middle = (LEFT + right) / 2
    yield element("text", "τ, least IoU of a match", x=middle, y=HEIGHT - 4, text_anchor="middle")


def _line(points, place, name):
    """A polyline with a dot at each point."""
    places = [place(*point) for point in points]
    dots = [element("circle", cx=x, cy=y, r=3) for x, y in places]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    return element("g", element("path", d=path), *dots, class_="line " + name)


def _names(lines, place, classes):
    """The name of each line beside its end, pushed up where ends are close (most ends are low)."""
    ends = [(place(*points[-1]), name, k) for (name, points), k in zip(lines.items(), classes)]
    highest = HEIGHT
    for (x, y), name, label_class in sorted(ends, key=lambda end: -end[0][1]):
        highest = min(y, highest - LINE)
        text = name if len(name) < 21 else name[:19] + "…"
        yield element("text", text, x=x + 10, y=highest + 4, class_="name " + label_class)
