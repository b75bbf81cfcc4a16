"""A picture of napari's window with a label image of ours:  napari_picture.py LABELS PICTURE

Runs in an environment of its own, .venv-viewers, on any display.
"""

import sys

import napari
from qtpy.QtTest import QTest


def main(labels, picture):
    """Open the label image by our reader, and save what is seen."""
    viewer = napari.Viewer()
    viewer.open(labels, plugin="cpn-napari")
    for layer in viewer.layers:
        print(layer.name, type(layer).__name__)
    QTest.qWait(2000)  # until all is drawn
    viewer.screenshot(picture, canvas_only=False)
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
