"""How good are label images, whichever program made them? Scored as the organisers do it."""

import os

# What OpenCV finds odd in a file is said by us, in one sentence.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
