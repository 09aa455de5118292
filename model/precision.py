"""Which half-precision type mixed precision uses, and where it is switched off."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def half_precision(device: torch.device, training: bool = False) -> torch.dtype:
    """Return the type of mixed precision on a device, for evaluation or for training.

    On a GPU evaluation uses float16, as published: its three more bits of mantissa keep probabilities closer to those
    of full precision. Training uses bfloat16 where the GPU computes in it (Ampere and later), since gradients need its
    range; older GPUs use float16 with a scaled loss. A CPU computes in bfloat16 only.
    """
    if device.type == "cpu":
        return torch.bfloat16
    if training and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast for the device of `like`."""
    return torch.autocast(device_type=like.device.type, enabled=False)
