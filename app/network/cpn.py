"""The Contour Proposal Network: five maps, and the proposals that they describe."""

from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn
from torch.nn import functional as F

from app.network import fourier
from app.network.config import Architecture, Config
from app.network.decoder import Decoder
from app.network.encoder import Encoder
from app.network.heads import Head

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Maps(NamedTuple):
    """What the heads predict for images (B, 3, H, W), before any activation.

    The first four lie on the proposal grid (h, w at `grid_stride`): score (B, 1, h, w) logits,
    location (B, 2, h, w), Fourier (B, 4 N, h, w), uncertainty (B, 4, h, w) logits in the order
    left, top, right, bottom. The refinement field (B, 2 * buckets, H/2, W/2) has stride 2.
    """

    score: torch.Tensor
    location: torch.Tensor
    fourier: torch.Tensor
    uncertainty: torch.Tensor
    refinement: torch.Tensor


class Proposals(NamedTuple):
    """k contours decoded from the maps, in input pixels.

    contours (k, S, 2) x y before refinement; refined (k, S, 2);
    boxes (k, 4) left, top, right, bottom of the refined contour; scores (k,) in [0, 1];
    uncertainties (k, 4) in [0, 1] in the order of the boxes; coefficients (k, N, 4);
    centres (k, 2).
    """

    contours: torch.Tensor
    refined: torch.Tensor
    boxes: torch.Tensor
    scores: torch.Tensor
    uncertainties: torch.Tensor
    coefficients: torch.Tensor
    centres: torch.Tensor


def boxes_of(contours: torch.Tensor) -> torch.Tensor:
    """Contours (k, S, 2) -> boxes (k, 4): min x, min y, max x, max y (paper, 2.2.3)."""
    return torch.cat([contours.amin(1), contours.amax(1)], 1)


class CPN(nn.Module):
    """The network of a Config. `forward` gives Maps, `propose` decodes chosen positions."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.architecture = layers = config.architecture
        self.encoder = Encoder(layers)
        self.decoder = Decoder(layers)
        level = layers.head_level
        width, fine = layers.decoder_widths[level], layers.decoder_widths[0]
        self.score_skip = nn.Conv2d(width + layers.encoder_widths[level], width, 1, bias=False)
        self.refinement_skip = nn.Conv2d(fine + layers.encoder_widths[0], fine, 1, bias=False)
        finer = 2 ** (level + 1) // layers.grid_stride
        self.score = Head(width, 1, layers, finer)
        self.location = Head(width, 2, layers, finer)
        self.fourier = Head(width, 4 * layers.order, layers, finer)
        self.uncertainty = Head(width, 4, layers, finer)
        self.refinement = Head(fine, 2 * layers.refinement_buckets, layers)
        constant = {"persistent": False}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), **constant)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), **constant)
        initialise(self)
        for head in (self.score, self.location, self.fourier, self.uncertainty, self.refinement):
            with torch.no_grad():
                head.layers[-1].weight.mul_(layers.head_gain)

    def forward(self, images: torch.Tensor) -> Maps:
        """Images (B, 3, H, W) in 0..1 -> Maps."""
        encoded = self.encoder((images - self.mean) / self.std)  # levels 0 to 5
        decoded = self.decoder(encoded)  # levels 0 to 4
        level = self.architecture.head_level
        shared = decoded[level]  # (B, C, H / 2 ** (level + 1), W / 2 ** (level + 1))
        return Maps(
            score=self.score(self.score_skip(torch.cat([shared, encoded[level]], 1))),
            location=self.location(shared),
            fourier=self.fourier(shared),
            uncertainty=self.uncertainty(shared),
            refinement=self.refinement(
                self.refinement_skip(torch.cat([decoded[0], encoded[0]], 1))
            ),
        )

    def grid_points(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Pixels x, y (k, 2) at the centres of positions of the grid (design.md, decision 10)."""
        stride = self.architecture.grid_stride
        return torch.stack([column, row], -1) * float(stride) + (stride - 1) / 2

    def displacements(self, maps: Maps, size: Tuple[int, int]) -> "DisplacementField":
        """What the local refinement reads; size: (H, W) of the images."""
        return DisplacementField(maps.refinement, self.architecture, size)

    def propose(
        self,
        maps: Maps,
        positions: Sequence[torch.Tensor],
        size: Tuple[int, int],
        t: Optional[torch.Tensor] = None,
        iterations: Optional[int] = None,
        field: Optional["DisplacementField"] = None,
    ) -> Proposals:
        """Decode the contours at chosen positions of the proposal grid.

        maps: Maps. positions: (image, row, column), each (k,) int64. size: (H, W) of the images.
        t: locations (S,), default `samples` uniform ones. iterations: of the local refinement,
        default `refinement_iterations`. field: `displacements` of the maps, for callers that
        propose more than once. Returns Proposals; the gradient reaches the maps.
        """
        layers, inference = self.architecture, self.config.inference
        image, row, column = positions
        if t is None:
            t = fourier.uniform_locations(inference.samples, row.device)
        if iterations is None:
            iterations = inference.refinement_iterations
        at = (image, slice(None), row, column)
        # Half precision has no room for pixel coordinates of a whole window.
        location, coefficients = maps.location[at].float(), maps.fourier[at].float()
        centres = self.grid_points(row, column) + location * layers.contour_scale  # (k, 2)
        coefficients = coefficients.reshape(-1, layers.order, 4) * layers.contour_scale
        contours = refined = fourier.to_contour(coefficients, centres, t)  # (k, S, 2)
        if iterations:
            field = field or self.displacements(maps, size)
            refined = field.refine(contours, image, t, iterations)
        return Proposals(
            contours=contours,
            refined=refined,
            boxes=boxes_of(refined),
            scores=maps.score[at][:, 0].float().sigmoid(),
            uncertainties=maps.uncertainty[at].float().sigmoid(),
            coefficients=coefficients,
            centres=centres,
        )


class DisplacementField:
    """The refinement map as displacements in pixels: tanh times the limit, read bilinearly.

    Reading the stride-2 map at the rounded points equals reading the map upsampled to the
    image's size (of even sides, as windows have), without ever holding that.
    """

    def __init__(self, refinement: torch.Tensor, architecture: Architecture, size: Tuple[int, int]):
        """refinement: the map (B, 2 * buckets, h, w); size: (H, W) of the images."""
        self.buckets = architecture.refinement_buckets
        self.height, self.width = refinement.shape[-2:]
        self.size = size
        # One row x, y per position and bucket: (B * h * w * buckets, 2).
        rows = refinement.permute(0, 2, 3, 1).reshape(-1, 2)
        self.rows = rows.float().tanh() * architecture.refinement_limit

    def refine(
        self, contours: torch.Tensor, image: torch.Tensor, t: torch.Tensor, iterations: int
    ) -> torch.Tensor:
        """Local refinement: p <- round(p) + field(round(p)), positions detached, clamped.

        contours (k, S, 2), image (k,), t (S,) -> refined contours (k, S, 2) inside the image.
        """
        height, width = self.size
        limit = torch.tensor([width - 1, height - 1], device=contours.device).float()
        refined = contours
        for _ in range(iterations):
            # torch.minimum(maximum()) would pass gradients at the border; clamp the constant.
            points = torch.minimum(refined.detach().round().clamp(min=0), limit)  # (k, S, 2)
            moved = points + self.at(points, image, t)
            refined = torch.minimum(moved.clamp(min=0), limit)
        return refined

    def at(self, points: torch.Tensor, image: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Displacements (k, S, 2) in pixels at points (k, S, 2), blended over the buckets of t."""
        corners, nearness = self._corners(points, image)
        buckets, share = self._buckets(t)
        index = corners[..., None] * self.buckets + buckets[:, None]  # (k, S, 4, 2)
        weight = nearness[..., None] * share[:, None]
        # Eight rows per point, weighted and summed in one operation.
        index, weight = index.reshape(-1, 8), weight.reshape(-1, 8)
        moved = F.embedding_bag(index, self.rows, mode="sum", per_sample_weights=weight)
        return moved.view_as(points)

    def _corners(self, points, image):
        """Flat positions and bilinear weights (k, S, 4) of the map around points (k, S, 2)."""
        x = ((points[..., 0] - 0.5) / 2).clamp(0, self.width - 1)
        y = ((points[..., 1] - 0.5) / 2).clamp(0, self.height - 1)
        left, top = x.floor(), y.floor()
        u, v = x - left, y - top
        first = (image[:, None] * self.height + top.long()) * self.width + left.long()
        right = (left < self.width - 1).long()
        below = (top < self.height - 1).long() * self.width
        corners = torch.stack([first, first + right, first + below, first + below + right], -1)
        upper, lower = torch.stack([1 - u, u], -1), torch.stack([1 - v, v], -1)
        return corners, (lower[..., :, None] * upper[..., None, :]).flatten(-2)

    def _buckets(self, t):
        """The two buckets around each t (S,) and their weights, both (S, 2).

        Bucket b has its centre at (b + 1/2) / buckets; t runs around a circle.
        """
        position = t * self.buckets - 0.5
        lower = position.floor()
        share = position - lower
        lower = lower.long() % self.buckets
        buckets = torch.stack([lower, (lower + 1) % self.buckets], -1)
        return buckets, torch.stack([1 - share, share], -1)


def initialise(module: nn.Module) -> None:
    """He-normal (fan-out) convolutions, norms 1 and 0, biases 0 (paper, table 2)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
