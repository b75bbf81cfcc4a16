"""Training: labels to targets, images to crops, losses (equations 1 to 5), the optimiser."""
