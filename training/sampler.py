"""Batches of crops from packed images. A CPU generator decides everything of the whole batch of
all processes; each computes its own part."""

import torch

from training import augment, distributed, intensities, negatives, packing, synthetic
from training.policies import POLICIES
from training.targets import make_targets, random_locations


class Crops:
    """Random views of the images of a Pack."""

    def __init__(self, pack, recipe, generator):
        """pack: Pack moved to the training device (Pack.to); generator: CPU generator."""
        self.pack, self.recipe, self.generator = pack, recipe, generator
        self.policy = POLICIES[recipe.policy]
        # What decides the views is small and on the CPU, with the generator.
        self.index = pack.move(packing.INDEX, "cpu")
        self.sizes = self.policy.bounds(self.index)

    def views(self, image, side):
        """Views of the images (B,), the mixes (B, 3) of their 8-bit conversions and their
        intensities.Changes, each of this process's part of the batch."""
        generator, index = self.generator, self.index
        sizes = tuple(bound[image] for bound in self.sizes)
        shares = (self.recipe.aimed_share, self.recipe.gap_share)
        views = augment.random_views(index, image, sizes, side, self.policy, *shares, generator)
        mixed = torch.rand(len(image), 1, generator=generator) < self.recipe.mixed_share
        anything = torch.rand(len(image), 1, generator=generator)
        mixes = torch.where(mixed, anything, index.mixes[image])
        kinds = (index.grey[image], index.photograph[image])
        changes = intensities.random_changes(self.policy, *kinds, generator)
        own = distributed.own_part(len(image))
        return views.select(own), mixes[own], changes.select(own)

    def gather(self, views, mixes):
        """augment.gather_crops of the views on the training device, wherever the pixels lie."""
        pack = self.pack if self.pack.red.is_cuda else self.index
        device = self.pack.polygons.device
        return [part.to(device) for part in augment.gather_crops(pack, views, mixes)]


class Sampler:
    """Draws batches of labelled crops from a Pack."""

    def __init__(self, pack, config, recipe, generator, sources=()):
        """config: of the network. sources: names of the pack's sources, by their number."""
        self.pack, self.config, self.recipe, self.generator = pack, config, recipe, generator
        self.crops = Crops(pack, recipe, generator)
        self.typical = packing.typical_sizes(pack)
        self.chances = image_chances(pack, recipe, sources)

    def __call__(self):
        """One batch: images (B, 3, side, side) float32 in 0..1, and its Targets."""
        kind = int(torch.randint(len(self.recipe.crops), (), generator=self.generator))
        side, count = self.recipe.crops[kind]
        image = self._random_images(kind, count * distributed.processes())
        views, mixes, changes = self.crops.views(image, side)
        t = random_locations(self.recipe.samples, self.generator)
        seed = int(torch.randint(2**31, (), generator=self.generator))
        empty = negatives.random_seeds(len(image), self.recipe.negatives, self.generator)
        crops = self.crops.gather(views, mixes)
        images, objects, depths = negatives.put(empty[distributed.own_part(len(image))], *crops)
        views = views.to(images.device)
        targets = make_targets(self.pack, views, objects, depths, self.config, self.recipe, t, seed)
        images = intensities.apply_changes(images, changes)
        return images.contiguous(memory_format=torch.channels_last), targets

    def _random_images(self, kind, count):
        """Images (count,) for crops of a kind: those of large objects prefer the largest one."""
        if self.recipe.turning_size is None:
            return torch.multinomial(self.chances, count, True, generator=self.generator)
        ratio = self.recipe.turning_size / self.typical
        larger = kind == len(self.recipe.crops) - 1 and kind > 0
        fitting = (1 / ratio if larger else ratio).clamp(max=1)
        return torch.multinomial(self.chances * fitting, count, True, generator=self.generator)


def image_chances(pack, recipe, sources=()):
    """Relative chance (I,) of every image: its source's size to a power, dealt out to the looks
    of the source by their size to the same power and there evenly, times how often the source is
    oversampled and the image itself was drawn for the run. Of drawn images recipe.synthetic_share.

    A look is all images of a source whose heights, and widths, are nearest to the same powers of
    two: other microscopes and other stains often come in other sizes.

    ValueError: recipe.oversample names a source that is not among `sources`.
    """
    unknown = set(recipe.oversample) - set(sources)
    if unknown:
        raise ValueError(
            f"no source '{sorted(unknown)[0]}' to oversample; there is {', '.join(sources)}"
        )
    owner = pack.sources.cpu()
    shares = torch.bincount(owner).float() ** recipe.source_power
    for name, factor in recipe.oversample.items():
        shares[list(sources).index(name)] *= factor
    if synthetic.SOURCE in sources:
        drawn = torch.tensor([name == synthetic.SOURCE for name in sources])
        shares /= shares[~drawn].sum()
        shares = torch.where(drawn, recipe.synthetic_share, (1 - recipe.synthetic_share) * shares)
    magnitudes = torch.stack([pack.heights, pack.widths], 1).cpu().float().log2().round()
    traits = torch.cat([owner[:, None], magnitudes.long()], 1)
    looks, look, number = torch.unique(traits, dim=0, return_inverse=True, return_counts=True)
    weight = number.float() ** recipe.source_power
    within = weight / torch.zeros(len(shares)).index_add(0, looks[:, 0], weight)[looks[:, 0]]
    return shares[owner] * (within / number)[look] * subsample(len(owner), recipe)


def subsample(count, recipe):
    """How often (count,) each image is among those that the run draws for itself (paper, section
    3.2.2: random data pruning; images can be over- or undersampled)."""
    if recipe.subsample >= 1:
        return torch.ones(count)
    generator = torch.Generator().manual_seed(recipe.seed)
    drawn = torch.randint(count, (max(round(count * recipe.subsample), 1),), generator=generator)
    return torch.bincount(drawn, minlength=count).float()
