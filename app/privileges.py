"""Who the process is: not root where that can be helped, for it parses files of others."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Optional, Union


def become_owner(folder: Union[str, Path]) -> bool:
    """When root, become the user and group who own a folder; returns whether that was done.

    Of a folder that is missing the nearest one above it counts. What is written from then on
    belongs to that user. Nothing is done where root owns the folder, and nothing can be where
    root is not allowed to (docker run --cap-drop ALL): it then has no powers to give up.
    """
    if os.geteuid() != 0:
        return False
    folder = os.path.abspath(str(folder))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    owner = os.stat(folder)
    if owner.st_uid == 0:
        return False
    try:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except OSError:
        return False
    return True


def closed_part() -> Optional[str]:
    """A folder that this program, its Python or its packages lie in, closed to the user: a str.

    None where all is open.
    """
    for part in (__file__, os.__file__, find_spec("torch").origin):
        # From the top: what a closed folder holds cannot be asked for.
        names = os.path.abspath(part).split(os.sep)[1:-1]
        for depth in range(1, len(names) + 1):
            folder = os.sep + os.sep.join(names[:depth])
            if not os.access(folder, os.R_OK | os.X_OK):
                return folder
    return None
