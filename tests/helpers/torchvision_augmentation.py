"""The augmentations as torchvision has them: slower, and what those of dataset/augmentation.py are compared with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dataset.augmentation import spline_map

# The mean colour of ImageNet; it fills what the image does not cover.
UNCOVERED_COLOUR = (124, 116, 104)
FILL = {Image.Image: UNCOVERED_COLOUR, tv_tensors.Image: UNCOVERED_COLOUR, tv_tensors.Mask: 0}

CONTROL_POINTS = 12


@contextmanager
def torch_seeded_by(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's random numbers on the CPU, which the transforms use, from `rng` for the block alone."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs as well, which are not restored.
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield


class VideoAugmentation:
    """Augmentation in stages 1 to 3: crop, flip and colours are the same in all frames, small shifts differ in each.

    Args:
        size: side of the square crop, in pixels.
        smallest_crop: smallest share of the frame's area that a crop keeps.
        frame_affine: rotate and shear every frame differently.
    """

    def __init__(self, size: int, smallest_crop: float = 0.36, frame_affine: bool = True):
        self.clip = transforms.Compose(
            [
                ResizedCrop(
                    size,
                    InterpolationMode.BILINEAR,
                    lambda images: RandomResizedCrop.get_params(images, (smallest_crop, 1.0), (3 / 4, 4 / 3)),
                ),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.1, 0.03, 0.03),
                transforms.RandomGrayscale(0.05),
            ]
        )
        affine = transforms.RandomAffine(15, shear=10, interpolation=InterpolationMode.BILINEAR, fill=FILL)
        self.frame = transforms.Compose([affine] * frame_affine + [transforms.ColorJitter(0.01, 0.01, 0.01)])

    def __call__(
        self,
        images: UInt8[Tensor, "frames 3 height width"],
        labels: UInt8[Tensor, "frames height width"],
        rng: np.random.Generator,
    ) -> tuple[UInt8[Tensor, "frames 3 size size"], UInt8[Tensor, "frames size size"]]:
        """Return the clip and its label maps, transformed alike."""
        with torch_seeded_by(rng):
            clip, masks = self.clip(tv_tensors.Video(images), tv_tensors.Mask(labels))
            frames = [
                self.frame(tv_tensors.Image(image), tv_tensors.Mask(mask))
                for image, mask in zip(clip, masks, strict=True)
            ]
        return _stacked(frames)


class ImageAugmentation:
    """Augmentation in stage 0: a clip from one image, in which every frame is another view of it, some of them warped.

    Args:
        size: side of the square frames, in pixels.
    """

    def __init__(self, size: int):
        bicubic = {"interpolation": InterpolationMode.BICUBIC, "fill": FILL}
        self.clip = transforms.Compose(
            [
                transforms.RandomAffine(0, scale=(0.8, 1.5), **bicubic),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.1, 0.05, 0.05, 0.05),
                transforms.RandomGrayscale(0.05),
            ]
        )
        self.frame = transforms.Compose(
            [
                transforms.RandomAffine(20, scale=(0.9, 1.1), shear=10, **bicubic),
                ResizedCrop(size, InterpolationMode.BICUBIC, _random_square),
                transforms.ColorJitter(0.1, 0.05, 0.05),
                transforms.PILToTensor(),
                transforms.RandomApply([ThinPlateSplineWarp()], 1 / 3),
            ]
        )

    def __call__(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        labels: UInt8[np.ndarray, "height width"],
        num_frames: int,
        rng: np.random.Generator,
    ) -> tuple[UInt8[Tensor, "frames 3 size size"], UInt8[Tensor, "frames size size"]]:
        """Return `num_frames` views of the image with their label maps."""
        with torch_seeded_by(rng):
            # Only Pillow rotates and shears with bicubic interpolation.
            clip = self.clip(Image.fromarray(image), tv_tensors.Mask(torch.from_numpy(labels)))
            frames = [self.frame(*clip) for _ in range(num_frames)]
        return _stacked(frames)


class ResizedCrop(nn.Module):
    """A part of the images and of their masks, scaled to a square.

    torchvision samples masks at the corners of pixels, which puts them up to half a pixel beside their images; here
    both are sampled at the centres.

    Args:
        size: side of the square in pixels.
        box: draws the part to crop at random, as (top, left, height, width).
    """

    def __init__(
        self,
        size: int,
        interpolation: InterpolationMode,
        box: Callable[[Any], tuple[int, int, int, int]],
    ):
        super().__init__()
        self.size = size
        self.interpolation = interpolation
        self.box = box

    def forward(
        self, images: tv_tensors.Video | Image.Image, masks: tv_tensors.Mask
    ) -> tuple[tv_tensors.Video | Image.Image, tv_tensors.Mask]:
        box = self.box(images)
        size = [self.size, self.size]
        cropped = F.resized_crop(images, *box, size, self.interpolation)
        as_images = masks.as_subclass(Tensor)[None]
        return cropped, tv_tensors.Mask(F.resized_crop(as_images, *box, size, InterpolationMode.NEAREST_EXACT)[0])


def _random_square(image: Image.Image) -> tuple[int, int, int, int]:
    """One of the largest squares within an image, at random."""
    side = min(image.size)
    top, left = (int(torch.randint(room - side + 1, ())) for room in (image.height, image.width))
    return top, left, side, side


class ThinPlateSplineWarp(nn.Module):
    """Warp an image smoothly: 12 random points move by 0.02 of the side (one standard deviation)."""

    def __init__(self, deviation: float = 0.02):
        super().__init__()
        self.deviation = deviation

    def forward(
        self, image: UInt8[Tensor, "3 height width"], mask: tv_tensors.Mask
    ) -> tuple[UInt8[Tensor, "3 height width"], tv_tensors.Mask]:
        points = torch.rand(CONTROL_POINTS, 2, dtype=torch.float64)
        targets = points + self.deviation * torch.randn(CONTROL_POINTS, 2, dtype=torch.float64)
        source = spline_map(points.numpy(), targets.numpy(), tuple(mask.shape))
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        warped = cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderValue=UNCOVERED_COLOUR)
        warped_mask = cv2.remap(mask.numpy(), source, None, cv2.INTER_NEAREST)
        return torch.from_numpy(warped).permute(2, 0, 1), tv_tensors.Mask(torch.from_numpy(warped_mask))


def _stacked(
    frames: list[tuple[Tensor, Tensor]],
) -> tuple[UInt8[Tensor, "frames 3 size size"], UInt8[Tensor, "frames size size"]]:
    images, masks = zip(*frames, strict=True)
    return torch.stack(images).as_subclass(Tensor), torch.stack(masks).as_subclass(Tensor)
