"""From frames to the network's input and back, against torchvision and by their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from inference.images import label_map_of, network_size, normalise_image, resize_channels, resize_label_map

sides = st.integers(1, 4000)


def test_normalised_images_are_torchvisions():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    expected = tv.normalize(tv.to_dtype(tv.to_image(rgb), scale=True), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(normalise_image(torch.from_numpy(rgb)), torch.Tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "shorter_side", "expected"),
    [
        ((480, 854), 480, (480, 854)),
        ((854, 480), 480, (854, 480)),
        ((1080, 1920), 480, (480, 853)),  # 853.33: rounded down
        ((720, 1280), 600, (600, 1066)),  # 1066.67: rounded down, too
        ((480, 910), 384, (384, 728)),
        ((100, 100), 480, (480, 480)),
        ((33, 77), -1, (33, 77)),
    ],
)
def test_sizes_the_network_sees(frame, shorter_side, expected):
    assert network_size(*frame, shorter_side) == expected


@given(height=sides, width=sides, shorter_side=st.integers(16, 1080))
def test_sizes_are_those_of_torchvisions_resize(height, width, shorter_side):
    size = network_size(height, width, shorter_side)
    assert size == tuple(v2.Resize(shorter_side)(torch.empty(1, height, width, device="meta")).shape[-2:])
    assert min(size) == shorter_side


def test_images_are_resized_bilinearly_without_antialiasing():
    image = torch.rand(3, 31, 47)
    for size in ((16, 24), (62, 100)):
        expected = tv.resize(image, list(size), antialias=False)
        torch.testing.assert_close(resize_channels(image, size), expected, rtol=0, atol=1e-6)
    assert resize_channels(image, (31, 47)) is image


def test_large_labels_keep_their_value_when_resized():
    labels = torch.tensor([[2**24 + 1, 2**40 + 3], [0, 1]])
    assert resize_label_map(labels, (4, 2))[::2].tolist() == labels.tolist()


@pytest.mark.parametrize("size", [(7, 5), (16, 29), (200, 300), (48, 64)])
def test_label_maps_keep_every_value_when_resized(size):
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (48, 64), np.uint8))
    resized = resize_label_map(labels, size)
    assert resized.dtype == torch.uint8
    rows, columns = (
        torch.tensor([index * before // after for index in range(after)])
        for before, after in zip((48, 64), size, strict=True)
    )
    assert torch.equal(resized, labels[rows][:, columns])


def test_label_maps_hold_the_labels_of_the_most_probable_channels():
    prob = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.5, 0.2], [0.2, 0.3, 0.7]]).reshape(3, 1, 3)
    labels = label_map_of(prob, [255, 7])
    assert labels.tolist() == [[0, 255, 7]]
    assert labels.dtype == torch.uint8
