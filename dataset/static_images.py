"""Stage 0: clips made from single images, one object each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from dataset.augmentation import ImageAugmentation
from dataset.frames import MASK_SUFFIXES, folder_entries, list_images, open_image, read_frame, require_folder
from dataset.training_source import SamplingConfig, TrainingSample, draw_sample, first_few
from util.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg"})

# Folder of each data set, and how often an epoch shows each of its images: the two finely annotated ones are small.
PUBLISHED_SETS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5}
SETS_WITH_CLASS_FOLDERS = frozenset({"fss"})

LAYOUT = f"the folder above {', '.join(PUBLISHED_SETS)}, or one with X.jpg and X.png side by side"


@dataclass(frozen=True)
class ImageWithMask:
    """An image and the mask of its object, X.jpg and X.png of one folder."""

    image: Path
    mask: Path

    def __str__(self) -> str:
        return str(self.image)

    def read(self) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """The image as RGB, and a label map: 1 where the object is.

        Raises:
            UserError: one of them cannot be read, or their sizes differ.
        """
        rgb, mask = read_frame(self.image).rgb, read_mask(self.mask)
        if mask.shape != rgb.shape[:2]:
            raise UserError(f"{self.mask} is {mask.shape[1]}x{mask.shape[0]}, its image {rgb.shape[1]}x{rgb.shape[0]}")
        return rgb, mask.astype(np.uint8)


def read_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """The object of a mask file: label 1 and above in a palette image, 128 and above in a grey or RGB one.

    A grey mask of nothing but 0 and 1 holds labels as well.

    Raises:
        UserError: `path` is missing, damaged or has more than 8 bits of grey.
    """
    with open_image(path) as image:
        if image.mode in ("P", "1"):
            return np.array(image) > 0
        if image.mode.startswith(("I", "F")):
            raise UserError(f"{path} has more than 8 bits per pixel of grey: convert it to 8 bits")
        grey = np.array(image.convert("L"))
    return grey >= (128 if grey.max() > 1 else 1)


def static_images(root: Path) -> list[ImageWithMask]:
    """The images of an epoch: of every published data set that lies in `root`, or else those of `root` itself.

    Raises:
        UserError: there is no image with a mask; an image lacks its mask, or a mask its image.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist; it has to be {LAYOUT}")
    if sets := [name for name in PUBLISHED_SETS if (root / name).is_dir()]:
        return [pair for name in sets for pair in published_set(root, name) * PUBLISHED_SETS[name]]
    if pairs := images_with_masks([root]):
        return pairs
    raise UserError(f"{root} holds no image with a mask; it has to be {LAYOUT}")


def published_set(root: Path, name: str) -> list[ImageWithMask]:
    """The images of the published data set in the folder `name` of `root`.

    Raises:
        MissingError: the folder does not exist.
        UserError: there is no image with a mask; an image lacks its mask, or a mask its image.
    """
    folder = require_folder(root / name)
    in_classes = name in SETS_WITH_CLASS_FOLDERS
    if pairs := images_with_masks(
        [path for path in folder_entries(folder) if path.is_dir()] if in_classes else [folder]
    ):
        return pairs
    inside = "CLASS/" if in_classes else ""
    raise UserError(f"{folder} holds no {inside}X.jpg with its mask {inside}X.png beside it")


def images_with_masks(folders: Sequence[Path]) -> list[ImageWithMask]:
    """Every X.jpg in these folders with its X.png.

    Raises:
        UserError: a folder cannot be listed; an image lacks its mask, or a mask its image (up to ten are named).
    """
    pairs: list[ImageWithMask] = []
    single: list[Path] = []
    for folder in folders:
        images = {path.stem: path for path in list_images(folder, IMAGE_SUFFIXES)}
        masks = {path.stem: path for path in list_images(folder, MASK_SUFFIXES)}
        pairs += [ImageWithMask(images[stem], masks[stem]) for stem in images if stem in masks]
        single += [(images.get(stem) or masks[stem]) for stem in sorted(images.keys() ^ masks.keys())]
    if single:
        raise UserError(
            f"every X.jpg needs its mask X.png beside it, and the reverse; alone are {first_few(single, 'files')}"
        )
    return pairs


class StaticImages:
    """Clips whose frames are different views of one image.

    Args:
        images: an epoch shows each once; may hold one several times.
    """

    def __init__(self, images: Sequence[ImageWithMask], config: SamplingConfig):
        self.images = images
        self.config = config
        self.augment = ImageAugmentation(config.size)

    def sample(self, number: int, max_jump: int = 1) -> TrainingSample:
        """Sample `number`; there is no time in an image, so `max_jump` changes nothing.

        Raises:
            UserError: as `draw_sample`.
        """
        return draw_sample(self.config, number, self.images, self._draw)

    def _draw(self, pair: ImageWithMask, rng: np.random.Generator) -> TrainingSample | None:
        rgb, labels = pair.read()
        images, labels = self.augment(rgb, labels, self.config.num_frames, rng)
        return TrainingSample(images, labels, objects=1) if torch.any(labels[0]) else None
