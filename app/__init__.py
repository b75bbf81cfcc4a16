"""The uncertainty-aware Contour Proposal Network: images in, labelled cells out."""

import os

# Threads that wait must not spin, see predict.sh; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.15.0"
