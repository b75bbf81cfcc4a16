"""Which licences let trained weights be used commercially."""

import csv

import numpy as np
import pytest
from PIL import Image
from test_predict import OneSquare
from tiny import tiny_config

from app import predict
from app.network import weights
from app.network.cpn import CPN
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


def of(licence, origin=None):
    """A training record."""
    return {"data": {"licence": licence}, "origin": origin}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (of("commercial"), "may be used commercially"),
        (of("any"), "are for research use only"),
        (of("commercial", of("commercial")), "may be used commercially"),
        (of("commercial", of("any")), "are for research use only"),
        (of("commercial", {"data": None}), "do not say under which licence"),
        ({}, "do not say under which licence"),
    ],
)
def test_the_end_of_a_run_says_what_its_weights_may_be_used_for(
    tmp_path, monkeypatch, capsys, record, said
):
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), {}))
    network = CPN(tiny_config())
    weights.save(tmp_path / "w.safetensors", network.state_dict(), network.config, record)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(str(tmp_path / "a.png"))
    assert predict.main([str(tmp_path), "--weights", str(tmp_path / "w.safetensors")]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert "w.safetensors" in last and said in last
