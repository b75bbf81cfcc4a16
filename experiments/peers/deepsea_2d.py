"""DeepSea (Zargari et al. 2023), as its package predicts: stem cells in phase contrast.

Zargari et al., "DeepSea is an efficient deep-learning model for single-cell segmentation and
tracking in time-lapse microscopy", Cell Reports Methods 2023. The wheel of `deepsea` on PyPI holds
the network and its trained weights; what its apply_img_segmentation does around them is done here
step by step, since that cannot be imported from the installed package.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, morphology

from experiments.peers.inputs import add_folders, label_all

SHAPE = (383, 512)  # rows and columns of all images that the network sees, by the package
LEAST_PIXELS = 20  # smaller pieces of the mask, at that size, are no cells, by the package


def add_arguments(parser):
    """What the command takes."""
    add_folders(parser)


def run(options):
    """Label all images."""
    network = load()
    label_all(options.images, options.out, lambda image: segment(image, network))
    return 0


def load():
    """The package's network with its trained weights, as a function of images (SHAPE) in -1..1
    that returns masks (SHAPE) of cells."""
    import deepsea
    import torch
    from deepsea.model import DeepSeaSegmentation

    network = DeepSeaSegmentation(n_channels=1, n_classes=2, bilinear=True).eval()
    path = Path(deepsea.__file__).parent / "trained_models" / "segmentation.pth"
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def mask_of(grey):
        with torch.inference_mode():
            logits, _ = network(torch.from_numpy(grey)[None, None])
        return logits[0].argmax(0).numpy() > 0

    return mask_of


def segment(image, network):
    """Labels (H, W), 0 = background, of an image (H, W, 3) uint8; network: of `load`."""
    grey = color.rgb2gray(image)
    grey = (grey - grey.min()) / max(np.ptp(grey), 1e-6)
    small = Image.fromarray((255 * grey).astype(np.uint8)).resize(SHAPE[::-1], Image.BILINEAR)
    mask = network(np.asarray(small, np.float32) / 127.5 - 1)
    cells, _ = ndimage.label(morphology.remove_small_objects(mask, LEAST_PIXELS))
    large = Image.fromarray(cells.astype(np.int32)).resize(image.shape[1::-1], Image.NEAREST)
    return np.asarray(large)
