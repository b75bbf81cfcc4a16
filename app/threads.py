"""How many threads the CPU is worth: what a container may use, not what the machine has."""

import math
import os
from pathlib import Path
from typing import Iterator, Optional

CGROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """The cores that this process may use, by its affinity and the limits of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return max(min([cores, *(math.ceil(limit) for limit in limits())]), 1)


def limits(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """Limits of the CPU time, in cores, of all control groups that this process is in."""
    for line in (_text(own) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / "cpu" if controllers else cgroups
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):  # a container sees its own as the top one
            if folder == top or top in folder.parents:
                limit = _limit(folder)
                if limit:
                    yield limit


def _limit(group):
    """The limit of one control group, of version 2 or 1; None where it has none."""
    both = _text(group / "cpu.max")
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quota, period = both.split() if both else (_text(group / name) or "max" for name in names)
    return int(quota) / int(period) if quota.strip().isdigit() and int(quota) else None


def _text(path: Path) -> Optional[str]:
    """What a file of the kernel says; None where there is no such file."""
    try:
        return path.read_text()
    except OSError:
        return None
