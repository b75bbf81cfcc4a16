"""python -m experiments cases: F1 of each image of folders CASE/in with its truth in CASE/truth.

As ../shared/cases/make.py writes them: NAME.tif and NAME_label.tif. Rules are strict. Cases whose
name begins with `sizes` are also done with the diameter of their median true cell given.
"""

from pathlib import Path

from tqdm import tqdm

from app.sizes import factor_of
from evaluate.folders import EvaluationError, read_labels
from evaluate.strict import scores
from evaluate.tables import text_table
from experiments.sizes import median_cell
from training import catalog, validation

BY_HAND = "sizes"


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("cases", type=Path, help="folder of the cases")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone")


def run(options):
    """Print a row for each image; returns the exit status. EvaluationError."""
    names = options.only or sorted(path.parent.name for path in options.cases.glob("*/in"))
    if not names:
        raise EvaluationError(f"{options.cases} has no folders CASE/in")
    try:
        segmenter, _ = validation.load(options.weights)
        files = [path for name in names for path in sorted((options.cases / name / "in").iterdir())]
        rows = [row_of(segmenter, path) for path in tqdm(files, disable=None)]
    except ValueError as error:
        raise EvaluationError(error) from error
    print(text_table(("case", "image", "cell", "true", "found", "false", "F1", "by hand"), rows))
    return 0


def row_of(segmenter, path):
    """The row of an image: its median true cell in pixels, cells, F1 (by hand: diameter given)."""
    case = path.parents[1]
    truth = read_labels(case / "truth" / f"{path.stem}_label.tif")
    image, cell = catalog.read_image(path), median_cell(truth)
    score = score_of(segmenter, image, truth)
    counts = (score.true_num, score.correct_num, score.wrong_num, round(score.f1, 3))
    by_hand = None
    if case.name.startswith(BY_HAND):
        automatic, segmenter.scale = segmenter.scale, factor_of(cell)
        by_hand = round(score_of(segmenter, image, truth).f1, 3)
        segmenter.scale = automatic
    return (case.name, path.stem, round(cell), *counts, by_hand)


def score_of(segmenter, image, truth):
    """The evaluate.matching.Score of an image's cells."""
    return scores(truth, validation.labels_of(segmenter, image), [0.5])[0]
