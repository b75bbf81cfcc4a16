import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data():
    """The labelled images beside the checkout; a missing folder is an error in CI only."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not (folder / "catalog.csv").is_file():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing")
        pytest.skip(f"{folder} is missing: tests on real images need it")
    return folder
