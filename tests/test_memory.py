"""Memory that is free again is used again."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Pages that the system handed out to a thread that made and dropped the same tensor many times.
PAGES = """
import resource, sys, threading
import torch
from app import memory

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(80):
        torch.ones(2**26, dtype=torch.uint8)

if sys.argv[1] == "kept":
    memory.keep_freed()
before = pages()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_tensors_take_no_new_pages_each_time():
    command = [sys.executable, "-c", PAGES]
    given, kept = (
        int(subprocess.run([*command, how], cwd=ROOT, capture_output=True, check=True).stdout)
        for how in ("given", "kept")
    )
    assert kept < given / 3
