"""What may be handed to the per-frame loop: the right result, or a message that says what is expected."""

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.images import label_map_of, normalise_image
from inference.inference_core import InferenceCore
from model.network import XMem
from tests.helpers.tiny_network import tiny_network

HEIGHT, WIDTH = 32, 48
RGB = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
IMAGE = normalise_image(RGB)


def label_map(label: int = 1, dtype: torch.dtype = torch.long) -> Tensor:
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    labels[4:20, 6:30] = label
    return labels.to(dtype)


@pytest.fixture(scope="module")
def network() -> XMem:
    return tiny_network()


def first_step(network: XMem, image: object, mask: object = None, **options: object) -> Tensor:
    return InferenceCore(network).step(image, label_map() if mask is None else mask, **options)


NOT_FINITE = IMAGE.clone()
NOT_FINITE[1, 3, 5] = torch.nan


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (RGB.permute(2, 0, 1), "not torch.uint8 of 3×32×48"),
        (RGB, "not torch.uint8 of 32×48×3"),
        (RGB.permute(2, 0, 1).float(), "values up to 255"),
        (IMAGE.unsqueeze(0), "not torch.float32 of 1×3×32×48"),
        (IMAGE.permute(1, 2, 0), "not torch.float32 of 32×48×3"),
        (IMAGE[:1], "of 1×32×48"),
        (IMAGE[:, :0], "of 3×0×48"),
        (NOT_FINITE, "values that are not finite"),
        (torch.full_like(IMAGE, torch.inf), "values that are not finite"),
        (IMAGE.numpy(), "not a ndarray"),
        (None, "not a NoneType"),
    ],
)
def test_an_image_of_another_kind_is_refused(network, image, found):
    with pytest.raises(ValueError, match="an image is a float tensor of 3×H×W, normalised") as error:
        first_step(network, image)
    assert found in str(error.value)


def test_values_are_checked_in_every_frame_on_a_cpu(network):
    core = InferenceCore(network)
    core.step(IMAGE, label_map())
    with pytest.raises(ValueError, match="values that are not finite"):
        core.step(NOT_FINITE)
    assert core.step(IMAGE).shape == (2, HEIGHT, WIDTH)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_numpy_label_maps_are_taken_like_tensors(network, dtype):
    expected = first_step(network, IMAGE)
    assert torch.equal(first_step(network, IMAGE, label_map().numpy().astype(dtype)), expected)
    mirrored = label_map().flip(1).numpy().astype(dtype)[:, ::-1]  # a view of negative strides
    assert torch.equal(first_step(network, IMAGE, mirrored), expected)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int32, torch.uint8, torch.bool])
def test_label_maps_of_any_integer_type(network, dtype):
    assert torch.equal(first_step(network, IMAGE, label_map(dtype=dtype)), first_step(network, IMAGE))


def test_numpy_soft_masks(network):
    soft = (label_map() == 1).float()[None]
    expected = first_step(network, IMAGE, soft, objects=[4])
    assert torch.equal(first_step(network, IMAGE, soft.numpy(), objects=[4]), expected)


@pytest.mark.parametrize("mask", ["mask.png", object(), [["a", "b"]]])
def test_a_mask_of_no_numbers_is_refused(network, mask):
    with pytest.raises(ValueError, match="a mask is an array of numbers"):
        first_step(network, IMAGE, mask)


@pytest.mark.parametrize("label", [255, 256, 1000, 70000])
def test_labels_of_any_size_come_back(network, label):
    core = InferenceCore(network)
    for mask in (label_map(label), label_map(label).numpy().astype(np.uint32)):
        core.reset()
        labels = label_map_of(core.step(IMAGE, mask), core.objects)
        assert core.objects == [label]
        assert labels.unique().tolist() == [0, label]
        assert labels.dtype == (torch.uint8 if label <= 255 else torch.int32)


def test_only_a_reset_follows_the_last_frame(network, tmp_path):
    core = InferenceCore(network)
    core.step(IMAGE, label_map())
    core.step(IMAGE, end=True)
    core.save_memory(tmp_path / "memory.pth")
    other = InferenceCore(network)
    other.load_memory(tmp_path / "memory.pth")
    for each in (core, other):
        with pytest.raises(ValueError, match="the frame before was the last"):
            each.step(IMAGE)
        each.reset()
        assert each.step(IMAGE, label_map()).shape == (2, HEIGHT, WIDTH)
