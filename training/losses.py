"""Losses of a frame: the cross entropy of its hardest pixels, and dice (section 4)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor


def bootstrapped_cross_entropy(
    logits: Float[Tensor, "batch channels height width"],
    labels: Integer[Tensor, "batch height width"],
    objects: Integer[Tensor, " batch"],
    fraction: float,
) -> Float[Tensor, ""]:
    """Return the mean over samples of the mean over each sample's hardest `fraction` of pixels.

    Only the sample's own channels count, the background's and those of its first `objects`: fillers' are left out.
    """
    channels = torch.arange(logits.shape[1], device=logits.device)
    is_filler = channels > objects[:, None]
    pixels = F.cross_entropy(
        logits.masked_fill(is_filler[:, :, None, None], -torch.inf), labels.long(), reduction="none"
    ).flatten(1)
    if fraction < 1:
        pixels = pixels.topk(int(pixels.shape[1] * fraction), dim=1, sorted=False).values
    return pixels.mean()


def dice_loss(
    masks: Float[Tensor, "batch objects height width"], labels: Integer[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Return 1 − (2Σmg + 1) / (Σm + Σg + 1), the mean over samples and object channels, fillers' included."""
    label_of_channel = torch.arange(1, masks.shape[1] + 1, device=masks.device)
    truth = (labels[:, None] == label_of_channel[:, None, None]).to(masks.dtype).flatten(2)
    masks = masks.flatten(2)
    overlap = 2 * (masks * truth).sum(-1)
    return (1 - (overlap + 1) / (masks.sum(-1) + truth.sum(-1) + 1)).mean()
