"""What files are called: images that are tried, label images, tables of cells."""

from pathlib import Path
from typing import Union

EXTENSIONS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp")  # of images
LABEL_EXTENSIONS = (".tiff", ".tif", ".png")
LABEL_ENDING, TABLE_ENDING = "_label.tiff", "_cells.csv"  # of what prediction writes
PREVIEW_ENDINGS = ("_preview.png", "_preview.jpg")  # pictures that are no inputs either
LABEL_ENDINGS = tuple("_label" + extension for extension in LABEL_EXTENSIONS)  # of label images


def output_name(path: Union[str, Path]) -> str:
    """The name of the label image of an input: its name up to the first dot + _label.tiff."""
    return Path(path).name.split(".")[0] + LABEL_ENDING


def table_path(path: Path) -> Path:
    """Where the table of cells of a label image is: NAME_label.tiff -> NAME_cells.csv."""
    return path.with_name(path.name[: -len(LABEL_ENDING)] + TABLE_ENDING)
