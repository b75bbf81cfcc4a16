"""The uncertainty-aware Contour Proposal Network: images in, labelled cells out."""
