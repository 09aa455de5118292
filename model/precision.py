"""Islands of full precision inside a caller's autocast."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context in which autocast is off for the device that `like` lives on."""
    return torch.autocast(device_type=like.device.type, enabled=False)
