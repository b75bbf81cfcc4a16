"""Listen2Student (paper, section 2; Unbiased Teacher v2): labels for unlabelled crops.

The teacher is the average of the student's weights. What it proposes with a high score is a label
where it is surer of a boundary than the student (losses.learned_sides); where its scores are
low there is background; the rest is ignored (reference.md, section 4).
"""

import torch

from app.network.device import autocast
from training import distributed, intensities
from training.sampler import Crops
from training.targets import Targets, choose_positions


class Teacher:
    """Adds unlabelled crops with the teacher's labels to batches."""

    def __init__(self, pack, recipe, generator):
        """pack: Pack of the unlabelled images on the training device; generator: CPU generator."""
        self.pack, self.recipe, self.generator = pack, recipe, generator
        self.crops = Crops(pack, recipe, generator)

    def extend(self, batch, teacher):
        """A batch (images, Targets) with `recipe.unlabelled` times as many crops more.

        teacher: CPN in evaluation mode. It sees the crops as they are, the student what the
        policy makes of their intensities.
        """
        images, targets = batch
        count = max(round(len(images) * self.recipe.unlabelled), 1) * distributed.processes()
        image = torch.randint(len(self.pack.starts), (count,), generator=self.generator)
        views, mixes, changes = self.crops.views(image, images.shape[-1])
        seed = int(torch.randint(2**31, (), generator=self.generator))
        plain, _, _ = self.crops.gather(views, mixes)
        plain = plain.contiguous(memory_format=torch.channels_last)
        pseudo = teach(teacher, plain, targets.t, self.recipe, seed)
        changed = intensities.apply_changes(plain, changes)
        joined = torch.cat([images, changed]).contiguous(memory_format=torch.channels_last)
        return joined, Targets.cat([targets, pseudo])


@torch.no_grad()
def teach(teacher, images, t, recipe, seed):
    """The Targets that a teacher gives for images (B, 3, h, w) in 0..1, at locations t (S,)."""
    with autocast(images.device, training=True):
        maps = teacher(images)
    score = maps.score[:, 0].float().sigmoid()
    foreground = score >= recipe.teacher_foreground
    # The positions have no objects to be spread over: each counts as one.
    owner = torch.arange(score.numel(), device=score.device).view_as(score)
    positions = choose_positions(owner, foreground, recipe.positions, seed)
    found = teacher.propose(maps, positions, images.shape[-2:], t)
    return Targets(
        foreground=foreground,
        ignored=(score > recipe.teacher_background) & ~foreground,
        positions=positions,
        t=t,
        contours=found.refined,
        coefficients=found.coefficients,
        centres=found.centres,
        boxes=found.boxes,
        is_pseudo=torch.ones_like(positions[0], dtype=torch.bool),
        uncertainties=found.uncertainties,
    )
