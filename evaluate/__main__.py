"""The evaluator's command: python -m evaluate score | bench (--help says more of each)"""

import argparse
import shlex
import sys

from .bench import bench
from .score import score_folder, score_table, summary, write_csv


def main(arguments=None):
    """Runs the command; the exit status: 0, or 1 when something could not be scored."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except OSError as error:
        print(f"evaluate: {error.filename}: {error.strerror}", file=sys.stderr)
    except RuntimeError as error:
        print(f"evaluate: {error}", file=sys.stderr)
    return 1


def _parser():
    parser = argparse.ArgumentParser(prog="python -m evaluate", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    score = commands.add_parser(
        "score",
        help="compare label images with the truth",
        description="Scores label images as the organisers of the challenge did, at IoU 0.5.",
    )
    score.add_argument(
        "--truth",
        required=True,
        metavar="DIR",
        help="true label images: NAME_label.(tiff|tif|png), else NAME.(tiff|tif|png)",
    )
    score.add_argument(
        "--labels", required=True, metavar="DIR", help="predicted: NAME_label.(tiff|tif|png)"
    )
    score.add_argument("--out", metavar="FILE.csv", help="also write the table here")
    score.set_defaults(run=_score)
    timing = commands.add_parser(
        "bench",
        help="time the whole prediction command on real images",
        description="Times one 1000x1000 image and twenty of 512x512, from start to exit.",
    )
    timing.add_argument("--data", required=True, metavar="DIR", help="a folder with catalog.csv")
    timing.add_argument("--command", default="sh predict.sh", help="default: %(default)s")
    timing.set_defaults(run=_bench)
    return parser


def _score(options):
    rows, problems = score_folder(options.truth, options.labels)
    if rows:
        found = summary(rows)
        print(score_table(rows))
        print(f"\n{found.images} images: mean F1 {found.mean:.4f}, median F1 {found.median:.4f}")
    if options.out:
        write_csv(options.out, rows)
    for name, reason in problems:
        print(f"evaluate: {name} not scored: {reason}", file=sys.stderr)
    if not rows and not problems:
        print(f"evaluate: {options.labels} has no *_label.(tiff|tif|png)", file=sys.stderr)
    return 0 if rows and not problems else 1


def _bench(options):
    status = 0
    for folder, images, seconds, promised, ratio in bench(
        options.data, shlex.split(options.command)
    ):
        passed = seconds <= promised
        status |= not passed
        print(
            f"{folder}: {images} images in {seconds:.1f} s of {promised:.0f} s "
            f"({'passed' if passed else 'FAILED'}), {ratio:.1f} times a bare import of torch"
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
