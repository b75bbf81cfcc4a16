"""What some options need beyond requirements.txt: NAME.txt here lists it, and is installed when
somebody wants it."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))


class Unusable(Exception):
    """A package that an option needs is missing, or broken: one sentence that says what to do."""


@contextmanager
def imported(what: str, name: str) -> Iterator[None]:
    """Import here what NAME.txt lists. Raises Unusable, which says that `what` needs it."""
    install = f"{sys.executable} -m pip install -r {FOLDER / name}.txt"
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unusable(
            f"{what} needs the package {error.name}; with Python 3.11 or newer this installs it: "
            f"{install}"
        ) from error
    except ImportError as error:
        raise Unusable(
            f"{what} needs a package that cannot be imported ({error}); this may mend it: "
            f"{install} --force-reinstall"
        ) from error
