"""From a decoded frame to what the network takes, and from its probabilities back to a label map."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from inference.inputs import as_tensor
from model.network import STRIDE, normalise_images
from util.device import send
from util.errors import SettingError

PUBLISHED_SIZE = 480
"""The shorter side at which the published program segments frames, in pixels."""
SMALLEST_SIZE = STRIDE
"""The least shorter side, which makes one position of a key."""


def normalise_image(rgb: Any) -> Float[Tensor, "3 height width"]:
    """Normalise a decoded 8-bit RGB image of H×W×3, a tensor or an array, as the network takes it.

    Raises:
        ValueError: it is something else.
    """
    rgb = as_tensor(rgb)
    if rgb.dtype != torch.uint8 or rgb.dim() != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image is 8-bit RGB of H×W×3, not {rgb.dtype} of {'×'.join(map(str, rgb.shape))}")
    return normalise_images(rgb.permute(2, 0, 1))


def check_size(size: int) -> None:
    """Check that frames can be segmented at a size: a shorter side in pixels, or −1 for their own.

    Raises:
        SettingError: they cannot.
    """
    if size != -1 and size < SMALLEST_SIZE:
        raise SettingError("size", f"must be at least {SMALLEST_SIZE} pixels, or -1 for the own size, not {size}")


def network_size(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    """Return the (height, width) at which a frame is segmented: `shorter_side` and its aspect ratio; −1: its own size.

    The longer side is rounded down, as published.
    """
    if shorter_side < 0:
        return height, width
    if height <= width:
        return shorter_side, int(shorter_side * width / height)
    return int(shorter_side * height / width), shorter_side


def resize_channels(
    x: Float[Tensor, "channels height width"], size: tuple[int, int]
) -> Float[Tensor, "channels new_height new_width"]:
    """Resize normalised images or probabilities bilinearly, without antialiasing."""
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x.unsqueeze(0), size, mode="bilinear", align_corners=False)[0]


def resize_label_map(
    labels: Integer[Tensor, "height width"], size: tuple[int, int]
) -> Integer[Tensor, "new_height new_width"]:
    """Resize a label map by nearest-neighbour sampling."""
    if tuple(labels.shape) == size:
        return labels
    # Rows and columns are sampled instead of the labels, which may be too large for any floating-point format.
    rows, columns = (
        F.interpolate(torch.arange(old, device=labels.device).float()[None, None], new, mode="nearest")[0, 0].long()
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def label_map_of(prob: Float[Tensor, "channels height width"], objects: list[int]) -> Integer[Tensor, "height width"]:
    """Return the most probable label of every pixel.

    Args:
        prob: probabilities of background and objects.
        objects: the labels of channels 1, 2, …; 0 stands for the background.

    Returns:
        A label map of 8-bit integers, or of 32-bit or 64-bit ones where a label needs them.
    """
    largest = max(objects, default=0)
    dtype = next(kind for kind in (torch.uint8, torch.int32, torch.int64) if largest <= torch.iinfo(kind).max)
    channels = prob.max(dim=0).indices  # what argmax returns, which takes twenty times as long on a CPU
    if objects == list(range(1, len(objects) + 1)):
        return channels.to(dtype)
    return send(torch.tensor([0, *objects], dtype=dtype), prob.device)[channels]


@dataclass(frozen=True)
class Padding:
    """Zeros on each side of an image, since the network takes multiples of its stride only.

    Where their number is odd, the larger half comes after.
    """

    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def to_multiple(cls, height: int, width: int, multiple: int) -> "Padding":
        """Return the least padding after which both sides are multiples of `multiple`."""
        rows, columns = -height % multiple, -width % multiple
        return cls(left=columns // 2, right=columns - columns // 2, top=rows // 2, bottom=rows - rows // 2)

    def pad(self, x: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels padded_height padded_width"]:
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def crop(self, x: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels cropped_height cropped_width"]:
        height, width = x.shape[-2:]
        return x[:, self.top : height - self.bottom, self.left : width - self.right]
