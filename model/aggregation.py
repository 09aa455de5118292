"""Soft aggregation: from one foreground probability per object to one distribution per pixel."""

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from util.device import full_precision

MARGIN = 1e-7
"""Probabilities are kept this far from 0 and 1, so that their log-odds stay finite."""


class Aggregated(NamedTuple):
    """What soft aggregation gives, background first."""

    prob: Float[Tensor, "*batch channels height width"]
    logits: Float[Tensor, "*batch channels height width"]


def product_over_objects(x: Float[Tensor, "*batch objects height width"]) -> Float[Tensor, "*batch 1 height width"]:
    """Return the product over all objects.

    The gradient of `torch.prod` asks the device whether there are zeros, and waits for the answer.
    """
    if x.shape[-3] > 1 and not (torch.is_grad_enabled() and x.requires_grad):
        return torch.prod(x, dim=-3, keepdim=True)
    return reduce(torch.mul, x.split(1, dim=-3))


def soft_aggregation(prob: Float[Tensor, "*batch objects height width"]) -> Aggregated:
    """Merge per-object probabilities in [0, 1] into a distribution over background and objects (STM's eq. 6).

    The background is where no object is, ∏(1 − pₖ); the softmax runs over the log-odds of all. Always in float32 or
    wider, whatever autocast says.
    """
    with full_precision(prob):
        prob = prob if prob.dtype == torch.float64 else prob.float()
        background = product_over_objects(1 - prob)
        logits = torch.logit(torch.cat([background, prob], dim=-3), eps=MARGIN)
        return Aggregated(prob=torch.softmax(logits, dim=-3), logits=logits)
