"""The published data sets of the paper (section 3.1) as folders that training reads.

`datasets.py` says what is known of each set and how it is found: `label_images.py` (a label image
for each image), `instances.py` (a mask or runs for each object) and `coco.py` list its Samples,
which `writing.py` writes one by one. `patches.py` cuts unlabelled slides.
"""
