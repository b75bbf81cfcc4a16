"""Where the lines of a chart lie; charts.html draws them."""

from typing import Dict, List, Tuple

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 34, 490, 10, 260  # of the axes; names of lines stand right of them
LINE = 15  # least distance between names, in the same units
COLOURS = 7  # of lines, in style.css


def f1_against_tau(lines: Dict[str, List[Tuple[float, float]]]) -> dict:
    """The chart of mean F1 over tau, in the units of its view box.

    lines: {name: [(tau, F1), ...], two or more with tau ascending}. Returns the sides of the axes;
    the marks of the axes, rows [(y, text)] and columns [(x, text)]; and of each line its name,
    class (series), points [(x, y)], and the height of its name (name_y).
    """
    taus = sorted({tau for points in lines.values() for tau, _ in points})

    def place(tau, f1):
        x = LEFT + (RIGHT - LEFT) * (tau - taus[0]) / (taus[-1] - taus[0])
        return round(x, 1), round(BOTTOM - (BOTTOM - TOP) * f1, 1)

    drawn = [
        {
            "name": name,
            "series": f"series-{(number - 1) % COLOURS}" if number else "all",
            "points": [place(*point) for point in points],
        }
        for number, (name, points) in enumerate(lines.items())
    ]
    # Beside its line's end, or pushed up where ends are close (most ends are low).
    name_y = HEIGHT
    for line in sorted(drawn, key=lambda line: -line["points"][-1][1]):
        name_y = line["name_y"] = min(line["points"][-1][1], name_y - LINE)
    steps = [step / 5 for step in range(6)]
    return {
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM},
        "rows": [(place(taus[0], step)[1], f"{step:.1f}") for step in steps],
        "columns": [(place(tau, 0)[0], f"{tau:g}") for tau in taus[:: -(-len(taus) // 10)]],
        "lines": drawn,
    }
