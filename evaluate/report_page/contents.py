"""What a page shows: numbers and charts of all images, and a line of each."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import numpy as np

from .charts import Distribution, distributions

TAU = 0.5  # of the outlines and of the table of images, where it was scored
SHADES = 20  # steps of uncertainty from 0 to 1, to one of which the scale of colours goes,
COLOURED = 0.99  # so that this share of the sides lies on it


@dataclass
class Entry:
    """One image of the report. What is not known of it is None.

    name: for the screen. index: of its folder of files. size: (width, height) in pixels, where
    there is something to look at. score: of scores.json, at the report's tau. times: of
    times.json, by the title of the run. predicted: cells. mean_score, mean_uncertainty: of these.
    """

    stem: str
    index: int
    name: str
    group: Optional[str] = None
    size: Optional[Tuple[int, int]] = None
    problems: List[str] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)
    score: Optional[dict] = None
    times: Dict[str, dict] = field(default_factory=dict)
    predicted: Optional[int] = None
    mean_score: Optional[float] = None
    mean_uncertainty: Optional[float] = None


@dataclass
class Report:
    """All that the page shows.

    labels_name: what was segmented, for the heading. tau: of the outlines and of each entry's
    score. scores, times: the content of scores.json and times.json. distributions: of the predicted
    cells, see `charts.distributions`. shades (SHADES + 1,): how many sides of cells are how
    uncertain, in SHADES steps. origin: (what, text) of how the report was made.
    """

    labels_name: str
    entries: List[Entry] = field(default_factory=list)
    tau: float = TAU
    scores: Optional[dict] = None
    times: Optional[dict] = None
    distributions: Dict[str, Distribution] = field(default_factory=distributions)
    shades: np.ndarray = field(default_factory=lambda: np.zeros(SHADES + 1, np.int64))
    origin: List[tuple] = field(default_factory=list)

    def groups(self) -> List[str]:
        """The names of the groups that are scored, sorted."""
        found = self.scores["aggregates"] if self.scores else []
        return sorted({one["group"] for one in found if one["group"] is not None})

    def aggregate(self, group: Optional[str], tau: float) -> dict:
        """The aggregate of scores.json of a group (None: all images) at tau."""
        found = {(one["group"], one["tau"]): one for one in self.scores["aggregates"]}
        return found[group, tau]

    @property
    def most_uncertainty(self) -> float:
        """The uncertainty at the end of the colours' scale, the same for all images."""
        total = self.shades.sum()
        if not total:
            return 1.0
        return max(1, int(np.searchsorted(self.shades.cumsum(), COLOURED * total))) / SHADES

    def f1_of(self, group: Optional[str]) -> List[float]:
        """F1 of each image of a group (None: of all)."""
        scored = [entry for entry in self.entries if entry.score]
        return [entry.score["f1"] for entry in scored if group in (None, entry.group)]

    def f1_by_tau(self) -> Dict[str, List[Tuple[float, float]]]:
        """{name of a group: its (tau, mean F1)}, all images first; empty for less than two tau."""
        taus = sorted(self.scores["taus"]) if self.scores else []
        lines = {}
        for group in (None, *self.groups()) if len(taus) > 1 else ():
            points = [(tau, self.aggregate(group, tau)["mean_f1"]) for tau in taus]
            known = [point for point in points if point[1] is not None]
            lines.update({group or "All images": known} if known else {})
        return lines

    def runs(self) -> Dict[str, dict]:
        """{title: run} of times.json."""
        titles = {True: "Time", False: "Time, AMP off"}
        return {titles[run["amp"]]: run for run in self.times["runs"]} if self.times else {}
