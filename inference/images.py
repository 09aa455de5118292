"""From a decoded frame to what the network takes, and from its probabilities back to the frame's size."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from model.network import normalise_images
from util.device import send


def normalise_image(rgb: UInt8[Tensor, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """A decoded RGB image as the network takes it."""
    return normalise_images(rgb.permute(2, 0, 1))


def network_size(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    """The size at which a frame is segmented; −1 keeps its own. The longer side is rounded down, as published."""
    if shorter_side < 0:
        return height, width
    if height <= width:
        return shorter_side, int(shorter_side * width / height)
    return int(shorter_side * height / width), shorter_side


def resize_channels(
    x: Float[Tensor, "channels height width"], size: tuple[int, int]
) -> Float[Tensor, "channels new_height new_width"]:
    """Bilinear, without antialiasing, for normalised images and for probabilities."""
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x.unsqueeze(0), size, mode="bilinear", align_corners=False)[0]


def resize_label_map(
    labels: Integer[Tensor, "height width"], size: tuple[int, int]
) -> Integer[Tensor, "new_height new_width"]:
    """Nearest neighbour."""
    if tuple(labels.shape) == size:
        return labels
    return F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0].to(labels.dtype)


def label_map_of(prob: Float[Tensor, "channels height width"], objects: list[int]) -> Integer[Tensor, "height width"]:
    """The most probable label of every pixel, for the objects of channels 1, 2, …; 0 is the background."""
    labels = send(torch.tensor([0, *objects], dtype=torch.uint8), prob.device)
    return labels[prob.argmax(dim=0)]
