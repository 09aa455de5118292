"""Masks go with their images through every change, and what is to be alike in all frames of a clip is."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from dataset.augmentation import (
    UNCOVERED_COLOUR,
    ImageAugmentation,
    ThinPlateSplineWarp,
    VideoAugmentation,
    torch_seeded_by,
)
from model.network import IMAGE_MEAN


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
    images = torch.from_numpy(painted(mask)).permute(2, 0, 1).expand(4, 3, 180, 240)
    labels = torch.from_numpy(mask).expand(4, 180, 240)
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
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (1, 60, 90), dtype=torch.uint8, generator=generator).expand(5, 60, 90)
    images = torch.randint(0, 256, (1, 3, 60, 90), dtype=torch.uint8, generator=generator).expand(5, 3, 60, 90)
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
    image = torch.from_numpy(painted(mask)).permute(2, 0, 1)
    moved = []
    for seed in range(8):
        torch.manual_seed(seed)
        bent_image, bent = ThinPlateSplineWarp()(image, tv_tensors.Mask(torch.from_numpy(mask)))
        assert_aligned(bent_image[None], bent.as_subclass(torch.Tensor)[None])
        moved.append(float((bent.numpy() != mask).mean()))
    # By 0.02 of the side, that is by 2.56 pixels or so along the outline of 251 pixels.
    assert 0.01 < np.mean(moved) < 0.08


def test_without_displacement_the_spline_changes_nothing():
    mask = disk(64, 64, 20)
    image = torch.from_numpy(painted(mask)).permute(2, 0, 1)
    same_image, same = ThinPlateSplineWarp(deviation=0.0)(image, tv_tensors.Mask(torch.from_numpy(mask)))
    assert torch.equal(same_image, image)
    assert np.array_equal(same.numpy(), mask)


@pytest.mark.parametrize("before", [0, 1])
def test_torch_draws_from_the_given_generator_and_goes_on_as_if_nothing_was(before):
    torch.manual_seed(before)
    state = torch.get_rng_state()
    with torch_seeded_by(np.random.default_rng(5)):
        drawn = torch.rand(1).item()
    assert torch.equal(torch.get_rng_state(), state)
    with torch_seeded_by(np.random.default_rng(5)):
        assert torch.rand(1).item() == drawn
    with torch_seeded_by(np.random.default_rng(6)):
        assert torch.rand(1).item() != drawn
