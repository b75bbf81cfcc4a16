"""Training: labels to targets, images to crops, losses (equations 1 to 5), the optimiser."""

import os

# Threads that wait must not spin, see predict.sh; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
