"""JSON that is written item by item, so that memory does not grow with it."""

import json
from itertools import islice
from typing import IO, Any, Dict, Iterable

PART = 1000  # items joined at a time


def write_list(file: IO[bytes], others: Dict[str, Any], name: str, items: Iterable[Any]) -> None:
    """Write {**others, name: [items]} as JSON, a line for each item."""
    head = json.dumps({**others, name: []}, separators=(",", ":"))
    file.write(head[:-2].encode())
    items, separator = iter(items), "\n"
    while True:
        lines = [json.dumps(item, separators=(",", ":")) for item in islice(items, PART)]
        if not lines:
            break
        file.write((separator + ",\n".join(lines)).encode())
        separator = ",\n"
    file.write(b"\n]}\n")
