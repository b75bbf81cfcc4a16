"""Weights files: safetensors with the configuration and a training record in the metadata."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised

from app.atomic import replacing
from app.network.config import Config
from app.network.cpn import CPN

FORMAT = "cpn-1"


class WeightsError(Exception):
    """A weights file that cannot be used; the message is one sentence for the user."""


def save(path, state, config, record=None):
    """Write a network's state, atomically.

    state: state_dict of a CPN. config: its Config. record: JSON-able dict.
    """
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(config)),
        "record": json.dumps(record or {}),
    }
    tensors = {name: stored(value).cpu().contiguous() for name, value in state.items()}
    with replacing(path) as file:
        file.write(serialised(tensors, metadata))


def stored(value):
    """A tensor as the file keeps it: convolutions in half precision.

    Vectors (norm layers, biases) stay float32: they are few, and running statistics may leave
    the range of float16.
    """
    return value.detach().half() if value.dim() > 1 else value.detach()


def load(path):
    """Read a weights file -> (CPN in evaluation mode, float32, on the CPU; training record).

    Raises WeightsError for a file that is missing, truncated, not safetensors, without our
    configuration, or whose tensors are not exactly those of the configured network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error}).") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: these are not weights of this program (no '{FORMAT}' mark).")
    try:
        network = CPN(Config(**json.loads(metadata["config"])))
        record = json.loads(metadata["record"])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(f"{path}: its configuration is not one of ours ({first}).") from error
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(
            f"{path}: its tensors do not fit its own configuration ({first})."
        ) from error
    return network.eval(), record
