"""StarDist (Schmidt et al. 2018) trained and run by its own package, as its examples do it.

train: on images and labels as `python -m training split` writes them, for a budget of CPU time.
thresholds: chooses the probability and overlap thresholds with the best mean F1 at IoU 0.5.
predict: labels for a folder of images.

It runs in an environment of its own (requirements.txt beside it); `run` makes that.
"""

import json
import math
import os
import time
from collections import Counter
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings

import keras
import numpy as np
from csbdeep.utils import normalize
from stardist.models import Config2D, StarDist2D

from evaluate.folders import EvaluationError, group_of, read_groups
from evaluate.official import score_pair
from evaluate.score import write_json
from experiments.peers.inputs import add_folders, label_all, labelled

PATCH = 256
SOURCE_POWER = 0.5  # a source is drawn with its number of images to this power
DRAWS = 20000  # length of the list in which an image occurs as often as it is to be drawn
HELD_OUT = 40  # one training image in so many chooses the best epoch instead
PROBABILITIES = tuple(percent / 100 for percent in range(20, 90, 10))
STEP = 0.05  # then tried to both sides of the best of them
OVERLAPS = (0.3, 0.4, 0.5)  # StarDist's own default is 0.4


def add_arguments(parser):
    """What the command takes: train, thresholds or predict, and the options of that."""
    commands = parser.add_subparsers(metavar="STEP", required=True)
    for step in (train, thresholds, predict):
        command = commands.add_parser(step.__name__, help=step.__doc__.splitlines()[0])
        command.set_defaults(step=step)
        command.add_argument("--model", type=Path, required=True, metavar="DIR")
        if step is predict:
            add_folders(command)
        else:
            command.add_argument("--split", type=Path, required=True, metavar="DIR")
        if step is train:
            command.add_argument("--cpu-hours", type=float, required=True, help="of all threads")


def run(options):
    """Train, choose thresholds or predict."""
    options.step(options)
    return 0


def train(options):
    """Train a model for so many hours of CPU time, and tell what it took."""
    if not 0 < options.cpu_hours < math.inf:
        raise EvaluationError(f"{options.cpu_hours} is no number of hours above 0")
    chosen, held = load(options.split)
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        train_patch_size=(PATCH, PATCH),
        train_epochs=1000,  # of 100 steps; the budget ends it
        train_n_val_patches=32,
        train_reduce_lr=None,  # the budget anneals it
        train_sample_cache=False,  # it would keep the foreground's pixels of each item of a list
        train_tensorboard=False,
    )
    model = StarDist2D(config, name=options.model.name, basedir=str(options.model.parent))
    model.prepare_for_training()
    budget = Budget(options.cpu_hours * 3600, config.train_learning_rate)
    model.callbacks.append(budget)
    start = time.monotonic()
    model.train(*chosen, validation_data=held, augmenter=augment, seed=0)
    record = {
        "steps": budget.steps,
        "batch": config.train_batch_size,
        "cpu_hours": budget.spent() / 3600,
        "wall_hours": (time.monotonic() - start) / 3600,
        "parameters": model.keras_model.count_params(),
        **{name: version(name) for name in ("stardist", "csbdeep", "tensorflow-cpu", "keras")},
    }
    write_json(options.model / "training.json", record)
    print(json.dumps(record))


class Budget(keras.callbacks.Callback):
    """Ends training after so many seconds of this process's CPU time, all threads together, and
    anneals the learning rate towards that by half a cosine."""

    def __init__(self, seconds, learning_rate):
        super().__init__()
        self.seconds, self.learning_rate = seconds, learning_rate
        self.steps, self.start = 0, time.process_time()

    def spent(self):
        """Seconds of CPU time since the training began."""
        return time.process_time() - self.start

    def on_train_batch_begin(self, batch, logs=None):
        share = min(self.spent() / self.seconds, 1)
        rate = self.learning_rate * (1 + math.cos(math.pi * share)) / 2
        self.model.optimizer.learning_rate = rate

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.model.stop_training = self.spent() >= self.seconds


def load(split):
    """The images and labels of a split: ([images], [labels]) to train on, and those held out.

    Each image occurs among the first as often as it is to be drawn. (StarDist copies what is not
    float32, once for each time.) EvaluationError: too few images to hold one out.
    """
    listing = labelled(split / "images", split / "truth")
    if len(listing) <= HELD_OUT // 2:
        raise EvaluationError(f"{split}: StarDist needs more than {HELD_OUT // 2} images here")
    groups = read_groups(split / "groups.csv")
    sources = [group_of(groups, name) for name, _, _ in listing]
    samples = [(padded(as_input(image)), padded(labels)) for _, image, labels in listing]
    held = range(HELD_OUT // 2, len(samples), HELD_OUT)
    kept = [number for number in range(len(samples)) if number not in held]
    often = Counter(sources[number] for number in kept)
    chances = np.array([often[sources[number]] ** (SOURCE_POWER - 1) for number in kept])
    drawn = np.random.default_rng(0).choice(kept, DRAWS, p=chances / chances.sum())
    return columns(samples, drawn), columns(samples, held)


def columns(samples, numbers):
    """([images], [labels]) of the samples of these numbers."""
    return tuple(map(list, zip(*(samples[number] for number in numbers))))


def padded(pixels):
    """An image (H, W, C) or labels (H, W) with at least PATCH rows and columns, zeros added."""
    missing = [(0, max(PATCH - side, 0)) for side in pixels.shape[:2]]
    return np.pad(pixels, missing + [(0, 0)] * (pixels.ndim - 2))


def as_input(image):
    """An 8-bit RGB image (H, W, 3) as StarDist wants it: float32, percentiles 1 and 99.8 at 0, 1.

    What lies far beyond, in images that are nearly all of one value, is cut off.
    """
    return np.clip(normalize(image, 1, 99.8, axis=(0, 1, 2), dtype=np.float32), -1, 10)


def augment(image, labels):
    """Flips, quarter turns, brightness and noise: the augmentation of StarDist's examples."""
    turns = np.random.randint(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.rand() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    noise = 0.02 * np.random.rand() * np.random.normal(size=image.shape)
    return (image + noise).astype(np.float32), labels


def thresholds(options):
    """Choose the thresholds with the best mean F1 at IoU 0.5 on a split and keep them."""
    model = load_model(options.model)
    samples = labelled(options.split / "images", options.split / "truth")
    maps = [predict_maps(model, image) for _, image, _ in samples]

    @lru_cache(maxsize=None)
    def mean_f1(probability, overlap):
        found = [
            score_pair(truth, instances(model, image, parts, probability, overlap)).f1
            for (_, image, truth), parts in zip(samples, maps)
        ]
        print(f"probability {probability:.2f} overlap {overlap}: mean F1 {np.mean(found):.4f}")
        return np.mean(found)

    usual = model.thresholds.nms
    coarse = max(PROBABILITIES, key=lambda value: mean_f1(value, usual))
    near = (coarse - STEP, coarse, coarse + STEP)
    probability = max(near, key=lambda value: mean_f1(value, usual))
    overlap = max(OVERLAPS, key=lambda value: mean_f1(probability, value))
    chosen = {"prob": round(probability, 2), "nms": overlap}
    write_json(options.model / "thresholds.json", chosen)  # where StarDist looks for it


def predict(options):
    """Write labels for a folder of images, by the model's thresholds."""
    model = load_model(options.model)

    def segment(image):
        return instances(model, image, predict_maps(model, image), *model.thresholds)

    label_all(options.images, options.out, segment)


def load_model(folder):
    """The trained model of a folder. EvaluationError: there is none."""
    if not (folder / "training.json").is_file():
        raise EvaluationError(f"{folder} holds no trained model")
    return StarDist2D(None, name=folder.name, basedir=str(folder.parent))


def predict_maps(model, image):
    """Object probabilities and radial distances of an image (H, W, 3) uint8."""
    return model.predict(padded(as_input(image)), show_tile_progress=False)


def instances(model, image, maps, probability, overlap):
    """Labels (H, W) of an image from its maps and the two thresholds."""
    height, width = image.shape[:2]
    shape = (max(height, PATCH), max(width, PATCH))  # of what was predicted
    # StarDist's own way to try thresholds on maps that are there (utils.optimize_threshold).
    labels, _ = model._instances_from_prediction(
        shape, *maps, prob_thresh=probability, nms_thresh=overlap
    )
    return labels[:height, :width]
