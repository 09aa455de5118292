"""One batch of clips through the network, as in training (section 4): predict, remember, predict the next frame.

Frame 0 comes with masks. Every later frame reads a few earlier ones, is decoded, and its *predicted* masks make its own
value; gradients flow through the whole sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import call
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.encoders import ImageFeatures, QueryKey
from model.network import Segmentation, XMem
from training.losses import bootstrapped_cross_entropy, dice_loss
from training.weights import ClipOperations, FoldedNetwork


@dataclass(frozen=True, eq=False)
class Choices:
    """The random choices of a batch: one row per sample, which follows from (seed, iteration, sample index) alone."""

    deep_updates: Bool[Tensor, "batch frames"]  # whether one follows each frame; always on frame 0, never on the last
    references: tuple[Integer[Tensor, "batch _"], ...]  # for each frame from 1 on, the earlier frames it reads
    forgotten: Bool[Tensor, "batch frames objects"] | None = None
    """Whether each object's sensory memory is set to zero before each frame; None: never."""


def draw_choices(
    seed: int,
    iteration: int,
    samples: range,
    *,
    frames: int,
    reference_frames: int,
    objects: int,
    deep_update_prob: float,
    sensory_dropout: float,
) -> Choices:
    """Draw the choices for the samples of a batch with these indices: the same whichever process holds them."""
    deep_updates = torch.zeros(len(samples), frames, dtype=torch.bool)
    forgotten = torch.zeros(len(samples), frames, objects, dtype=torch.bool)
    references = [torch.zeros(len(samples), min(t, reference_frames), dtype=torch.long) for t in range(1, frames)]
    for row, sample in enumerate(samples):
        rng = np.random.default_rng([seed, iteration, sample])
        deep_updates[row] = torch.from_numpy(rng.random(frames) < deep_update_prob)
        for t in range(1, frames):
            if t <= reference_frames:
                chosen = np.arange(t)
            else:
                chosen = np.append(0, 1 + np.sort(rng.choice(t - 1, reference_frames - 1, replace=False)))
            references[t - 1][row] = torch.from_numpy(chosen)
        forgotten[row] = torch.from_numpy(rng.random((frames, objects)) < sensory_dropout)
    deep_updates[:, 0] = True
    deep_updates[:, -1] = False
    return Choices(deep_updates, tuple(references), forgotten if sensory_dropout else None)


class CompiledNetwork:
    """The operations of a network on one frame, compiled. The network itself stays as it is.

    A whole clip is not compiled, since its graph depends on each iteration's reference frames. Nor are memory reads:
    every frame of a clip reads another number of elements.
    """

    def __init__(self, network: XMem) -> None:
        self.config = network.config
        self.read_memory = network.read_memory
        compiled: list[Any] = [
            torch.compile(operation, dynamic=False)
            for operation in (network.encode_key, network.encode_value, network.segment)
        ]
        self.encode_key, self.encode_value, self.segment = compiled

    def operations(self) -> ClipOperations:
        """Return what it does with the frames of a clip."""
        return ClipOperations(self.encode_key, repeat(self.encode_value), repeat(self.segment), self.read_memory)


def segment_clips(
    network: FoldedNetwork | CompiledNetwork,
    images: Float[Tensor, "batch frames 3 height width"],
    first_masks: Float[Tensor, "batch objects height width"],
    selector: Float[Tensor, "batch objects"],
    choices: Choices,
    checkpoint_activations: bool = False,
) -> list[Segmentation]:
    """Return the network's masks for frames 1, 2, …, with the sensory memory after each.

    Args:
        images: normalised.
        first_masks: of frame 0; all zeros for filler objects.
        selector: 0 for filler objects, 1 for real ones.
        checkpoint_activations: keep only what goes from frame to frame, and compute the rest again in the backward
            pass: the same result with less memory, in about a third more time.
    """
    # Nothing in a network is random, so there is no random state to be kept for the second computation.
    run: Callable[..., Any] = call
    if checkpoint_activations:
        run = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    batch, frames = images.shape[:2]
    on_clip = network.operations()
    keys, features = run(encode_all, on_clip, images)
    h, w = keys.key.shape[-2:]
    hidden = None
    if network.config.has_sensory_memory:
        hidden = images.new_zeros(batch, first_masks.shape[1], network.config.hidden_dim, h, w)
    value, hidden = run(
        next(on_clip.encode_value), images[:, 0], features[0].f16, hidden, first_masks, deep_update=True
    )
    values = [value]
    segmentations: list[Segmentation] = []
    rows = torch.arange(batch, device=images.device)[:, None]
    queries = [QueryKey(*of_frame) for of_frame in zip(*(part.unbind(1) for part in keys), strict=True)]
    for t in range(1, frames):
        references = choices.references[t - 1]
        memory = QueryKey(*(concatenate_frames(part[rows, references]) for part in keys))
        memory_values = torch.stack(values, dim=1)[rows, references]  # batch references objects value_dim h w
        readout = run(on_clip.read_memory, queries[t], memory, memory_values.permute(0, 2, 3, 1, 4, 5).flatten(3))
        if hidden is not None and choices.forgotten is not None:
            hidden = hidden.masked_fill(choices.forgotten[:, t, :, None, None, None], 0)
        is_last = t == frames - 1
        segmentation = run(
            next(on_clip.segment), features[t], readout, hidden, update_hidden=not is_last, selector=selector
        )
        segmentations.append(segmentation)
        if is_last:
            break
        deep = choices.deep_updates[:, t]
        masks = segmentation.prob[:, 1:]
        value, reinforced = run(
            next(on_clip.encode_value), images[:, t], features[t].f16, segmentation.hidden, masks, deep_update=True
        )
        values.append(value)
        if segmentation.hidden is not None:
            hidden = torch.where(deep[:, None, None, None, None], reinforced, segmentation.hidden)
    return segmentations


def encode_all(
    network: ClipOperations, images: Float[Tensor, "batch frames 3 height width"]
) -> tuple[QueryKey, list[ImageFeatures]]:
    """Return keys, with a frame dimension after the batch, and each frame's features, from one pass over all frames."""
    batch_and_frames = images.shape[:2]
    keys, features = network.encode_key(images.flatten(0, 1))
    of_frames = zip(*(part.unflatten(0, batch_and_frames).unbind(1) for part in features), strict=True)
    return (
        QueryKey(*(part.unflatten(0, batch_and_frames) for part in keys)),
        [ImageFeatures(*of_frame) for of_frame in of_frames],
    )


def concatenate_frames(x: Float[Tensor, "batch frames dim h w"]) -> Float[Tensor, "batch dim frames*h w"]:
    """Concatenate the feature maps of several frames along their height."""
    return x.transpose(1, 2).flatten(2, 3)


@dataclass(frozen=True, eq=False)
class ClipLoss:
    """The loss of a batch, and its parts for frames 1, 2, …, each a mean over samples."""

    total: Float[Tensor, ""]
    cross_entropy: list[Float[Tensor, ""]]
    dice: list[Float[Tensor, ""]]


def clip_loss(
    segmentations: list[Segmentation],
    labels: Integer[Tensor, "batch frames height width"],
    objects: Integer[Tensor, " batch"],
    hardest_fraction: float,
) -> ClipLoss:
    """Return the sum over frames, all but the first, of cross entropy and dice.

    Args:
        hardest_fraction: share of each frame's pixels that the cross entropy is the mean of.
    """
    frames = list(enumerate(segmentations, start=1))
    cross_entropy = [
        bootstrapped_cross_entropy(segmentation.logits, labels[:, t], objects, hardest_fraction)
        for t, segmentation in frames
    ]
    dice = [dice_loss(segmentation.prob[:, 1:], labels[:, t]) for t, segmentation in frames]
    return ClipLoss(torch.stack(cross_entropy + dice).sum(), cross_entropy, dice)
