"""The uncertainty-aware Contour Proposal Network: images in, labelled cells out."""

__version__ = "0.5.0"
