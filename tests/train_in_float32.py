"""python -m training in float32 on any processor: in bfloat16 one batch and its two halves
differ by more than a comparison can tell from a mistake."""

import sys

from app.network import device
from training.__main__ import main

device.cpu_has_bfloat16 = lambda: False
sys.exit(main(sys.argv[1:]))
