"""What is known of each published data set: its layout, its facts, how its images are found."""

from dataclasses import dataclass
from typing import Callable, Optional

from training.convert.instances import find_bbbc038, find_sartorius
from training.convert.label_images import find_bbbc039, find_beside, find_neurips


@dataclass(frozen=True)
class DataSet:
    """One published data set.

    find: a function of its folder that lists the Samples and warns of what is missing. layout:
    the files that it expects, for people. The others are columns of the catalogue; percentile,
    gamma_floor and largest are None where training's own rule holds.
    """

    find: Callable
    layout: str
    modality: str
    objects: str
    licence: str
    origin: str
    percentile: Optional[float] = None
    gamma_floor: Optional[float] = None
    largest: Optional[int] = None

    def facts(self):
        """The columns of the catalogue that are alike for all images."""
        known = vars(self).items()
        return {name: value for name, value in known if name not in ("find", "layout")}


def find_livecell(source):
    """`coco.find_livecell`: only those who convert this data set need pycocotools."""
    from training.convert.coco import find_livecell as find

    return find(source)


# The licence is named where it is printed with the data; "see origin" never counts as commercial.
DATASETS = {
    "neurips": DataSet(
        find_neurips,
        "images/* and labels/NAME_label.tiff, in SRC or in folders below (Training-labeled/, "
        "Tuning/ for validation; not Testing/); images below a folder with 'unlabel' in its name "
        "go to DST/unlabelled, slides cut into patches",
        "BF/DIC/Fluo/PC",
        "cells",
        "see origin",
        "NeurIPS 2022 cell segmentation challenge, https://neurips22-cellseg.grand-challenge.org",
    ),
    "cellpose": DataSet(
        find_beside,
        "train/NNN_img.png with NNN_masks.png, test/ likewise",
        "Fluo/BF",
        "cells and other round objects",
        "see origin",
        "Cellpose, https://www.cellpose.org/dataset",
        # The paper removes large objects here (section 2.1) and does not say from where on. This
        # is what the authors' function for it does by default (their published code calls it for
        # Omnipose alone, with 92), and half of a crop: larger ones are rarely seen whole.
        largest=256,
    ),
    "omnipose": DataSet(
        find_beside,
        "NAME.tif or .png (or NAME_img.*) with NAME_masks.* in any folders (bact_phase/"
        "train_sorted/A22/); those below train*/ and test*/ are split so",
        "PC/Fluo",
        "bacteria",
        "see origin",
        "Omnipose, https://osf.io/xmury",
        percentile=99.9,
        largest=92,
    ),
    "livecell": DataSet(
        find_livecell,
        "livecell_coco_train.json, livecell_coco_val.json, livecell_coco_test.json and the *.tif "
        "that they list, in any folders (images/livecell_train_val_images/A172/)",
        "PC",
        "adherent cells",
        "CC BY-NC 4.0",
        "LIVECell, https://sartorius-research.github.io/LIVECell",
    ),
    "sartorius": DataSet(
        find_sartorius,
        "train.csv (id, annotation, width, height) and train/ID.png",
        "PC",
        "shsy5y, cort, astro",
        "Kaggle terms, research use",
        "https://www.kaggle.com/competitions/sartorius-cell-instance-segmentation",
    ),
    "bbbc038": DataSet(
        find_bbbc038,
        "stage1_train/ID/images/ID.png with one mask per nucleus in stage1_train/ID/masks/*.png",
        "Fluo/BF",
        "nuclei",
        "CC0",
        "BBBC038 / Data Science Bowl 2018, https://bbbc.broadinstitute.org/BBBC038",
        gamma_floor=0.4,
    ),
    "bbbc039": DataSet(
        find_bbbc039,
        "images/NAME.tif, masks/NAME.png, and metadata/training.txt, validation.txt and test.txt",
        "Fluo",
        "U2OS nuclei",
        "CC0",
        "BBBC039, https://bbbc.broadinstitute.org/BBBC039",
        percentile=99.9,
    ),
}
