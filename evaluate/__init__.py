"""How good are label images? Scored as the challenge's organisers do it; usable without app/."""

import os

# What OpenCV finds odd in a file is said by us, in one sentence.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
