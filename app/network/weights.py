"""Weights files: safetensors with the configuration and a training record in the metadata."""

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Optional, Tuple, Union

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from app.atomic import replaced
from app.network.config import Config, from_format_1, from_json
from app.network.cpn import CPN

FORMAT = "cpn-2"
# Configurations of each format that is read.
READERS = {"cpn-1": from_format_1, FORMAT: from_json}


class WeightsError(Exception):
    """A weights file that cannot be used; the message is one sentence for the user."""


def save(
    path: Union[str, Path], state: dict, config: Config, record: Optional[dict] = None
) -> None:
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
    with replaced(path) as temporary:
        save_file(tensors, str(temporary), metadata)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def stored(value: torch.Tensor) -> torch.Tensor:
    """A tensor as the file keeps it: convolutions in half precision.

    Vectors (norm layers, biases) stay float32: they are few, and running statistics may leave
    the range of float16.
    """
    return value.detach().half() if value.dim() > 1 else value.detach()


def describe(path: Union[str, Path]) -> Tuple[Config, dict]:
    """What a weights file says of itself: its Config and its training record. WeightsError."""
    with _opened(path) as file:
        return _description(path, file.metadata() or {})


def licence_of(path: Union[str, Path]) -> str:
    """Under which licence weights may be used, by their training record: a sentence.

    Raises WeightsError.
    """
    _, record = describe(path)
    licences = []
    while record:  # and that of the weights that they began with, and so on
        licences.append((record.get("data") or {}).get("licence"))
        record = record.get("origin")
    name = Path(path).name
    if not licences or None in licences:
        return f"The weights {name} do not say under which licence they may be used."
    if set(licences) == {"commercial"}:
        return f"The weights {name} may be used commercially, by the licences of their images."
    return (
        f"The weights {name} are for research use only: they learned from images whose licences do "
        "not allow, or are not known to allow, more."
    )


def load(path: Union[str, Path]) -> Tuple[CPN, dict]:
    """Read a weights file -> (CPN in evaluation mode, float32, on the CPU; training record).

    Raises WeightsError for a file that is missing, truncated, not safetensors, without our
    configuration, or whose tensors are not exactly those of the configured network.
    """
    with _opened(path) as file:
        config, record = _description(path, file.metadata() or {})
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        network = CPN(config)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _no_configuration(path, error) from error
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(
            f"{path}: its tensors do not fit its own configuration ({first})."
        ) from error
    return network.eval(), record


@contextmanager
def _opened(path):
    """An open safetensors file; WeightsError for whatever is wrong with it."""
    if not Path(path).is_file():
        raise WeightsError(f"{path}: there is no such weights file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error}).") from error


def _description(path, metadata):
    """The Config and the training record in a file's metadata."""
    read_config = READERS.get(metadata.get("format"))
    if read_config is None:
        raise WeightsError(f"{path}: these are not weights of this program (no '{FORMAT}' mark).")
    try:
        return read_config(json.loads(metadata["config"])), json.loads(metadata["record"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _no_configuration(path, error) from error


def _no_configuration(path, error):
    first = str(error).strip().splitlines()[0]
    return WeightsError(f"{path}: its configuration is not one of ours ({first}).")
