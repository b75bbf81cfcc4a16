import os
from pathlib import Path

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Processes share the tests by file; those of the containers have one engine: one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            container = "tests/container"
            return container if file.startswith(f"{container}/") else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def data():
    """The labelled images beside the checkout; a missing folder is an error in CI only."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not (folder / "catalog.csv").is_file():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing")
        pytest.skip(f"{folder} is missing: tests on real images need it")
    return folder
