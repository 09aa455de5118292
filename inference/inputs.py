"""What a frame may come with: `InferenceCore.step` checks its images and masks here, once, before anything else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

LARGEST_NORMALISED_VALUE = 20.0
"""Normalised 8-bit images lie in [−2.2, 2.7]; images in 0 … 255 that were not normalised go far beyond this."""

IMAGE_REQUIREMENT = "an image is a float tensor of 3×H×W, normalised (normalise_image makes one of 8-bit RGB)"


class GivenMasks(NamedTuple):
    """The masks that came with a frame: one for each object that they define."""

    objects: list[int]
    masks: Shaped[Tensor, "masks height width"]


def check_image(image: Any, check_values: bool) -> Float[Tensor, "3 height width"]:
    """Return a frame's image if it is one that the network takes.

    Args:
        image: what the caller gave.
        check_values: also look at its values, which on a GPU waits for the device.

    Raises:
        ValueError: it is of another type or shape, not finite, or not normalised.
    """
    if not isinstance(image, Tensor):
        raise ValueError(f"{IMAGE_REQUIREMENT}, not a {type(image).__name__}")
    if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point() or image.numel() == 0:
        raise ValueError(f"{IMAGE_REQUIREMENT}, not {image.dtype} of {'×'.join(map(str, image.shape))}")
    if check_values:
        largest = image.abs().max().item()  # NaN if any value is
        if not largest <= LARGEST_NORMALISED_VALUE:
            found = f"values up to {largest:g}" if np.isfinite(largest) else "values that are not finite"
            raise ValueError(f"{IMAGE_REQUIREMENT}; this one has {found}")
    return image


def read_masks(
    mask: Any, objects: Sequence[int] | None, size: tuple[int, int], device: torch.device | None = None
) -> GivenMasks | None:
    """Return a label map or soft masks as one mask for each object; None where no object is defined.

    Args:
        mask: an integer label map (H×W) or soft masks in [0, 1] (K×H×W), as a tensor or an array.
        objects: the labels that `mask` defines; None: those that occur in a label map.
        size: (height, width) of the image.
        device: where the masks are wanted; None: where `mask` is.

    Raises:
        ValueError: the mask does not fit the image or the objects.
    """
    if mask is None:
        if objects is not None:
            raise ValueError("objects are the labels of a mask, but there is no mask")
        return None
    mask = as_tensor(mask).to(device)
    if tuple(mask.shape[-2:]) != tuple(size):
        raise ValueError(f"the mask is {tuple(mask.shape[-2:])}, the image {tuple(size)}")
    if objects is not None:
        objects = [int(label) for label in objects]
        if len(set(objects)) != len(objects) or any(label <= 0 for label in objects):
            raise ValueError(f"objects must be distinct positive labels, not {objects}")
    if mask.dim() == 3:
        if objects is None or len(objects) != len(mask):
            raise ValueError(f"{len(mask)} soft masks need as many objects, not {objects}")
        if not ((mask.float() - 0.5).abs() < 0.501).all():  # a little over a half: whoever resized them has rounded
            raise ValueError(f"soft masks are in [0, 1], not in [{mask.min()}, {mask.max()}]")
        return GivenMasks(objects, mask) if objects else None
    if mask.dim() != 2 or mask.is_floating_point():
        raise ValueError(f"a mask is an integer H×W label map or K×H×W soft masks, not {mask.dtype} {mask.dim()}D")
    if mask.dtype == torch.bool and objects not in (None, [1]):
        raise ValueError(f"a boolean label map defines the object 1, not {objects}: give soft masks (1×H×W), or labels")
    if objects is None:
        objects = [int(label) for label in mask.unique().tolist() if label]  # int: a boolean mask's object is 1
        if any(label < 0 for label in objects):
            raise ValueError(f"labels must be positive, not {objects}")
    if not objects:
        return None
    labels = torch.tensor(objects, device=mask.device)
    return GivenMasks(objects, mask.to(labels.dtype) == labels[:, None, None])


def as_tensor(array: Any) -> Tensor:
    """Return an image or mask as a tensor; unsigned integers of over 8 bits become signed, as operations want them."""
    if isinstance(array, Tensor):
        return array.long() if array.dtype in (torch.uint16, torch.uint32, torch.uint64) else array
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"a mask is an array of numbers, not a {type(array).__name__}")
    is_wide = numbers.dtype.kind == "u" and numbers.itemsize > 1
    numbers = np.ascontiguousarray(numbers.astype(np.int64) if is_wide else numbers)
    return torch.from_numpy(numbers if numbers.flags.writeable else numbers.copy())  # that of a PIL image is read-only
