"""The plan of a large image: all that every window has to know of the whole."""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import List, Tuple, Union

import numpy as np

from app.intensity import Curve, Curves
from app.no_image import NoImage
from app.scale import View
from app.windows import Window


@dataclass
class Plan:
    """What is done with a large image; the same for the same file, weights and settings.

    record: how its labels are made (outputs.record_for). shape: of the image, (height, width).
    factor: by which it is scaled. convert, no_image: as of app.scale.View. windows: of the scaled
    image, in the order in which they are numbered from 0 on.
    """

    record: dict
    shape: Tuple[int, int]
    factor: float
    convert: Union[Curve, Curves]
    no_image: NoImage
    windows: List[Window]

    def view(self, image: np.ndarray) -> View:
        """The image, as the plan's windows have it."""
        return View(image, self.convert, self.no_image, self.factor)

    @property
    def digest(self) -> str:
        """What tells this plan from all others."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=8).hexdigest()

    def to_json(self) -> str:
        """As the text that `from_json` reads."""
        convert = {"kind": type(self.convert).__name__}
        if isinstance(self.convert, Curves):
            curves = [asdict(curve) for curve in self.convert.curves]
            convert.update(curves=curves, count=self.convert.count)
            convert.update(photograph=bool(self.convert.photograph))
        else:
            convert.update(asdict(self.convert))
        return json.dumps(
            {
                "record": self.record,
                "shape": self.shape,
                "factor": self.factor,
                "convert": convert,
                "no_image": _no_image_to_json(self.no_image),
                "windows": self.windows,
            },
            default=_number,
        )

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan in a text of `to_json`. Raises ValueError, KeyError or TypeError for others."""
        plan = json.loads(text)
        no_image = _no_image_from_json(plan["no_image"])
        convert = dict(plan["convert"])
        if convert.pop("kind") == "Curves":
            curves = [_curve(curve) for curve in convert["curves"]]
            convert = Curves(curves, convert["count"], convert["photograph"], no_image)
        else:
            convert = _curve(convert)
        windows = [Window(*window) for window in plan["windows"]]
        shape = tuple(plan["shape"])
        return cls(plan["record"], shape, plan["factor"], convert, no_image, windows)


def _curve(fields):
    stretches = {name: tuple(fields[name]) for name in ("stretch_a", "stretch_b")}
    return Curve(**{**fields, **stretches})


def _number(value):
    """A number of numpy as one of Python."""
    return value.item()


def _no_image_to_json(found):
    squares = found.squares
    return {
        "nodata": found.nodata,
        "values": [[str(value.dtype), value.tolist()] for value in found.values],
        "side": found.side,
        "map": squares is not None and squares.shape,
        "squares": squares is not None and base64.b64encode(np.packbits(squares)).decode(),
    }


def _no_image_from_json(fields):
    squares = None
    if fields["map"]:
        bits = np.frombuffer(base64.b64decode(fields["squares"]), np.uint8)
        height, width = fields["map"]
        squares = np.unpackbits(bits)[: height * width].reshape(height, width).astype(bool)
    values = [np.array(value, dtype) for dtype, value in fields["values"]]
    return NoImage(fields["nodata"], values, squares, fields["side"])
