import os
from pathlib import Path

import pytest

# These install Debian packages (an engine, a browser), and apt lets only one process do so.
INSTALLING = ("tests/container/", "tests/browser/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Processes share the tests by file; all that install packages are one process's."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return "installing" if file.startswith(INSTALLING) else file

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
