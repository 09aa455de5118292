"""Masks go with their images through every change, and what is to be alike in all frames of a clip is."""

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from dataset import augmentation
from dataset.augmentation import UNCOVERED_COLOUR, ImageAugmentation, VideoAugmentation, bent
from model.network import IMAGE_MEAN
from tests.helpers import torchvision_augmentation


def disk(height: int, width: int, radius: float) -> np.ndarray:
    """1 in a disk off the centre, else 0."""
    y, x = np.mgrid[:height, :width]
    return (np.hypot(y - 0.45 * height, x - 0.55 * width) < radius).astype(np.uint8)


def painted(mask: np.ndarray) -> np.ndarray:
    """White where the mask is 1, black elsewhere."""
    return np.repeat(255 * mask[..., None], 3, axis=2)


def assert_aligned(images: torch.Tensor, labels: torch.Tensor) -> None:
    """White and label 1 cover the same pixels, but for the border, and have the same centre, almost."""
    # The colour of uncovered pixels is darker than this.
    white = images.min(dim=1).values > 127
    inside = labels == 1
    assert inside.any()
    assert (white & inside).sum() / (white | inside).sum() > 0.97
    centres = [
        torch.stack([place.double().mean() for place in torch.nonzero(one, as_tuple=True)]) for one in (white, inside)
    ]
    assert torch.allclose(*centres, atol=0.15)


def test_video_masks_stay_on_their_objects():
    mask = disk(180, 240, 50)
    images, labels = [painted(mask)] * 4, np.stack([mask] * 4)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        new_images, new_labels = VideoAugmentation(128)(images, labels, rng)
        assert new_images.shape == (4, 3, 128, 128)
        assert type(new_images) is type(new_labels) is torch.Tensor
        assert_aligned(new_images, new_labels)


def test_image_masks_stay_on_their_objects():
    mask = disk(150, 200, 45)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        images, labels = ImageAugmentation(160)(painted(mask), mask, 6, rng)
        assert images.shape == (6, 3, 160, 160)
        assert_aligned(images, labels)


def test_without_frame_affine_the_geometry_is_the_same_in_all_frames():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 4, (60, 90), dtype=np.uint8)] * 5)
    images = [rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)] * 5
    steady_images, steady = VideoAugmentation(48, frame_affine=False)(images, labels, np.random.default_rng(1))
    assert (steady == steady[0]).all()
    # Colours of one frame differ from another's by its own jitter of 0.01, no more.
    difference = steady_images.float() - steady_images[0].float()
    assert 0 < difference.abs().max() < 0.04 * 255
    _, shaken = VideoAugmentation(48, frame_affine=True)(images, labels, np.random.default_rng(1))
    assert not (shaken == shaken[0]).all()


def test_views_of_an_image_differ():
    mask = disk(60, 80, 20)
    _, labels = ImageAugmentation(48)(painted(mask), mask, 3, np.random.default_rng(0))
    assert not (labels[1] == labels[0]).all()


def test_what_is_uncovered_has_the_mean_colour_and_no_label():
    assert tuple(round(255 * mean) for mean in IMAGE_MEAN) == UNCOVERED_COLOUR
    white = np.full((60, 60, 3), 255, np.uint8)
    images, labels = ImageAugmentation(64)(white, np.ones((60, 60), np.uint8), 8, np.random.default_rng(4))
    uncovered = images.permute(0, 2, 3, 1)[labels == 0].float()
    assert len(uncovered) > 100
    # The jitter changes it a little, and pixels of the border are mixed with white.
    assert torch.allclose(uncovered.median(dim=0).values, torch.tensor(UNCOVERED_COLOUR).float(), atol=15)


def test_the_spline_bends_image_and_mask_alike_and_smoothly():
    mask = disk(128, 128, 40)
    moved = []
    for seed in range(8):
        picture, shown = bent(painted(mask), mask, np.random.default_rng(seed))
        assert_aligned(torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(shown)[None])
        moved.append(float((shown != mask).mean()))
    # By 0.02 of the side, that is by 2.56 pixels or so along the outline of 251 pixels.
    assert 0.01 < np.mean(moved) < 0.08


def test_without_displacement_the_spline_changes_nothing():
    mask = disk(64, 64, 20)
    picture, shown = bent(painted(mask), mask, np.random.default_rng(0), deviation=0.0)
    assert np.array_equal(picture, painted(mask))
    assert np.array_equal(shown, mask)


LOOKS = ("x", "y", "angle", "size", "uncovered", "red", "green", "blue", "contrast", "sharpness", "colourfulness")


def observed(images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return what is to be distributed alike, for every frame in which both marks show."""
    rows = []
    for image, label in zip(images.permute(0, 2, 3, 1).double().numpy(), labels.numpy(), strict=True):
        marks = [np.argwhere(label == number) for number in (1, 2)]
        if min(len(mark) for mark in marks) < 4:
            continue
        (y, x), (other_y, other_x) = (mark.mean(axis=0) for mark in marks)
        grey = image.mean(axis=2)
        rows.append(
            (
                x,
                y,
                np.arctan2(other_y - y, abs(other_x - x)),
                np.hypot(other_y - y, other_x - x),
                (label == 0).mean(),
                *image.mean(axis=(0, 1)),
                grey.std(),
                np.abs(np.diff(grey, axis=0)).mean(),
                np.ptp(image, axis=2).mean(),
            )
        )
    return np.array(rows)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture of coarse and fine detail, and a label map that is 3 everywhere but in two marks."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (160, 120), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(coarse + rng.normal(0, 25, (120, 160, 3)), 0, 255).astype(np.uint8)
    labels = np.full((120, 160), 3, np.uint8)
    labels[50:60, 50:60], labels[60:74, 95:109] = 1, 2
    return picture, labels


@pytest.mark.parametrize("kind", ["video", "steady video", "image"])
def test_distributions_are_those_of_torchvision(kind):
    picture, labels = scene()
    frames = 1  # those of a clip are too much alike to count as several
    samples: list[np.ndarray] = []
    for module, first_seed in ((augmentation, 0), (torchvision_augmentation, 10000)):
        seen = []
        for seed in range(first_seed, first_seed + 600):
            rng = np.random.default_rng(seed)
            if kind == "image":
                seen.append(observed(*module.ImageAugmentation(64)(picture, labels, frames, rng)))
                continue
            augment = module.VideoAugmentation(64, frame_affine=kind == "video")
            images, masks = [picture] * frames, np.stack([labels] * frames)
            if module is augmentation:
                seen.append(observed(*augment(images, masks, rng)))
            else:
                tensors = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(masks)
                seen.append(observed(*augment(*tensors, rng)))
        samples.append(np.concatenate([each for each in seen if len(each)]))
    for name, ours, theirs in zip(LOOKS, *(each.T for each in samples), strict=True):
        if name in ("sharpness", "contrast"):  # the white noise has more to lose than any photograph
            assert ours.mean() == pytest.approx(theirs.mean(), rel=0.04)
            continue
        if name in ("red", "green", "blue"):  # torchvision rounds down after each of up to eight changes
            shift = np.median(ours) - np.median(theirs)
            assert 0 < shift < 6
            theirs = theirs + shift
        # Two thousandths: eleven quantities and three kinds make a false alarm improbable, and seeds are fixed.
        assert ks_2samp(ours, theirs).pvalue > 0.002, (name, ours.mean(), theirs.mean(), ours.std(), theirs.std())
