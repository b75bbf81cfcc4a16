"""The network: tensors in, tensors out. It knows nothing of files, windows or losses."""
