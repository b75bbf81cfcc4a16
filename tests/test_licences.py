"""Which licences let trained weights be used commercially."""

import csv

import pytest

from training.licences import commercial


@pytest.mark.parametrize(
    "text",
    [
        "CC0",
        "CC0 1.0 Universal",
        "CC BY 3.0",
        "CC BY 4.0 (authors)",
        "CC-BY-4.0",
        "MIT",
        "MIT License",
        "BSD",
        "BSD-3-Clause",
        "Apache 2.0",
        "Apache License 2.0",
        " cc by 4.0 ",
    ],
)
def test_permissive_licences_allow_it(text):
    assert commercial(text)


@pytest.mark.parametrize(
    "text",
    [
        "CC BY-NC",
        "CC BY-NC-SA 4.0",
        "CC BY-SA 4.0",
        "CC BY-ND 4.0",
        "CC-BY-NC-4.0",
        "CC BY 4.0, research use",
        "MIT (images: research use)",
        "MIT AND CC BY-NC",
        "CTC, research use",
        "Kaggle terms, research use",
        "none stated",
        "none stated (TCGA)",
        "free, cite ISBI 2009",
        "GPL-3, cite Zheng 2018",
        "LGPL-3",
        "see origin",
        "limited",
        "",
    ],
)
def test_all_others_do_not(text):
    assert not commercial(text)


def test_every_licence_of_the_shared_images_is_judged(data):
    with (data / "catalog.csv").open(newline="") as lines:
        found = {row["licence"] for row in csv.DictReader(lines)}
    allowed = {"CC0", "CC BY 3.0", "CC BY 4.0", "CC BY 4.0 (authors)", "MIT"}
    assert {text for text in found if commercial(text)} == allowed
