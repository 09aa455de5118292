"""The click network: image features once a frame, then a small decoder for every click; and its network file.

The decoder sees the clicks, the box and the object's previous mask as maps, and how much the features of every pixel
resemble those at the clicks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.efficientnet_lite import CHANNELS, EfficientNetLite
from util.errors import UserError, first_few
from util.files import atomic_path
from util.torch_files import read_torch_file

FORMAT = "XMem click network 1"

EMBEDDING = 32
SIGMAS = (4.0, 24.0)
"""Radii of the disks drawn for a click, in pixels: where exactly it is, and what is near."""
MAPS = 2 * len(SIGMAS) + 2
"""Maps that show the prompts: of positive and negative clicks, the box, and the previous mask."""
SIMILARITIES = 4
"""Maps of an embedding: its similarity to positive clicks, negative clicks, and the previous mask's two sides."""
DIM16, DIM8, DIM4, DIM2 = 96, 56, 32, 16


class Features(NamedTuple):
    """What the decoder needs of an image, at strides 2 to 16, and two embeddings of length 1: of strides 16 and 8."""

    f2: Float[Tensor, "batch _ _ _"]
    f4: Float[Tensor, "batch _ _ _"]
    f8: Float[Tensor, "batch _ _ _"]
    f16: Float[Tensor, "batch _ _ _"]
    coarse: Float[Tensor, "batch embedding _ _"]
    fine: Float[Tensor, "batch embedding _ _"]


class PromptTensors(NamedTuple):
    """The clicks, box and previous mask of each image of a batch.

    All images have the same number of clicks, at least one: those that an image lacks have sign 0.
    """

    places: Float[Tensor, "batch clicks 2"]
    """x and y in pixels."""
    signs: Float[Tensor, "batch clicks"]
    """1: positive; −1: negative; 0: none."""
    box: Float[Tensor, "batch 1 height width"]
    """1 inside, −1 outside; 0 everywhere without a box."""
    previous: Float[Tensor, "batch 1 height width"]
    """From −1 to 1, the object; 0 everywhere without a previous mask."""


def convolution(in_dim: int, out_dim: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a 3 × 3 convolution with group normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(in_dim, out_dim, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.GroupNorm(max(1, out_dim // 8), out_dim),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions, the second dilated, added to the input."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(dim, dim), convolution(dim, dim, dilation=dilation))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        return x + self.body(x)


class ClickNetwork(nn.Module):
    """EfficientNet-Lite0, and a decoder like that of a U-net."""

    def __init__(self) -> None:
        super().__init__()
        dim2, dim4, dim8, dim16, dim32 = CHANNELS
        self.encoder = EfficientNetLite()
        self.lateral32, self.lateral16 = nn.Conv2d(dim32, 80, 1), nn.Conv2d(dim16, 80, 1)
        self.lateral8, self.down8 = nn.Conv2d(dim8, 48, 1), nn.Conv2d(80, 48, 1)
        self.lateral4, self.lateral2 = nn.Conv2d(dim4, 24, 1), nn.Conv2d(dim2, 12, 1)
        self.fuse16, self.fuse8 = convolution(80, 80), convolution(48, 48)
        self.embed_coarse, self.embed_fine = nn.Conv2d(80, EMBEDDING, 1), nn.Conv2d(48, EMBEDDING, 1)

        self.maps4, self.maps8 = convolution(MAPS, 16, stride=2), convolution(16, 24, stride=2)
        self.maps16 = convolution(24, 32, stride=2)
        self.level16 = nn.Sequential(convolution(80 + 32 + 2 * SIMILARITIES, DIM16), Residual(DIM16, 3))
        self.context = nn.Linear(DIM16, DIM16)
        self.up16, self.up8, self.up4 = nn.Conv2d(DIM16, DIM8, 1), nn.Conv2d(DIM8, DIM4, 1), nn.Conv2d(DIM4, DIM2, 1)
        self.level8 = nn.Sequential(convolution(DIM8 + 48 + 24 + SIMILARITIES, DIM8), convolution(DIM8, DIM8))
        self.level4 = nn.Sequential(convolution(DIM4 + 24 + 16, DIM4), convolution(DIM4, DIM4))
        self.level2 = nn.Sequential(convolution(DIM2 + 12 + MAPS, DIM2), nn.Conv2d(DIM2, 1, 3, padding=1))

    def encode(self, image: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the encoder's features of normalised images, whose sides are multiples of 32."""
        return self.encoder(image)

    def prepare(self, encoded: Sequence[Float[Tensor, "batch _ _ _"]]) -> Features:
        """Return what the decoder needs of an image from the encoder's features."""
        e2, e4, e8, e16, e32 = encoded
        f16 = self.fuse16(self.lateral16(e16) + enlarged(self.lateral32(e32), 2))
        f8 = self.fuse8(self.lateral8(e8) + enlarged(self.down8(f16), 2))
        coarse, fine = F.normalize(self.embed_coarse(f16), dim=1), F.normalize(self.embed_fine(f8), dim=1)
        return Features(self.lateral2(e2), self.lateral4(e4), f8, f16, coarse, fine)

    def decode(self, features: Features, prompts: PromptTensors) -> Float[Tensor, "batch 1 height width"]:
        """Return the object's logits at half the resolution of the image, enlarged to its resolution."""
        maps2 = prompt_maps(prompts)
        maps4 = self.maps4(maps2)
        maps8 = self.maps8(maps4)
        maps16 = self.maps16(maps8)
        coarse, fine = similarities(features.coarse, prompts, 16), similarities(features.fine, prompts, 8)
        x = self.level16(torch.cat([features.f16, maps16, coarse, F.avg_pool2d(fine, 2)], dim=1))
        x = x + self.context(x.mean(dim=(2, 3)))[..., None, None]
        x = self.level8(torch.cat([enlarged(self.up16(x), 2), features.f8, maps8, fine], dim=1))
        x = self.level4(torch.cat([enlarged(self.up8(x), 2), features.f4, maps4], dim=1))
        x = self.level2(torch.cat([enlarged(self.up4(x), 2), features.f2, maps2], dim=1))
        return enlarged(x.float(), 2)


def enlarged(x: Float[Tensor, "batch dim height width"], factor: int) -> Float[Tensor, "batch dim rows columns"]:
    """Enlarge maps bilinearly."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def prompt_maps(prompts: PromptTensors) -> Float[Tensor, "batch maps rows columns"]:
    """Return the maps that show clicks, box and previous mask, at half the resolution."""
    rows, columns = (2 * torch.arange(side // 2, device=prompts.places.device) + 0.5 for side in prompts.box.shape[-2:])
    x, y = prompts.places[..., 0, None], prompts.places[..., 1, None]
    maps = []
    for sign in (1, -1):
        given = (prompts.signs == sign).float()[..., None, None]
        for sigma in SIGMAS:
            across, down = (torch.exp(-(((pixels - at) / sigma) ** 2)) for pixels, at in ((columns, x), (rows, y)))
            maps.append((given * down[..., :, None] * across[..., None, :]).amax(dim=1))
    others = F.avg_pool2d(torch.cat([prompts.box, prompts.previous], dim=1), 2)
    return torch.cat([torch.stack(maps, dim=1), others], dim=1)


def similarities(
    embedding: Float[Tensor, "batch embedding height width"], prompts: PromptTensors, stride: int
) -> Float[Tensor, "batch similarities height width"]:
    """Return the greatest similarity to what positive and negative clicks are on, and that to both sides' means.

    All are from −1 to 1; 0 where there is no such click, or no previous mask.
    """
    height, width = embedding.shape[-2:]
    size = torch.tensor([width * stride, height * stride], device=embedding.device)
    grid = (2 * (prompts.places + 0.5) / size - 1).to(embedding.dtype)
    clicked = F.grid_sample(embedding, grid[:, :, None], padding_mode="border", align_corners=False)[..., 0]
    resembling = torch.einsum("bek,behw->bkhw", clicked, embedding)
    maps = []
    for sign in (1, -1):
        given = (prompts.signs == sign)[..., None, None]
        greatest = resembling.masked_fill(~given, -1.0).amax(dim=1)
        maps.append(greatest * given.any(dim=1))
    previous = F.avg_pool2d(prompts.previous, stride).to(embedding.dtype)
    for side in (previous.clamp(min=0), (-previous).clamp(min=0)):
        mean = (embedding * side).sum(dim=(2, 3))
        maps.append(torch.einsum("be,behw->bhw", F.normalize(mean, dim=1), embedding))
    return torch.stack(maps, dim=1)


def save_click_network(path: Path, network: ClickNetwork, metadata: Mapping[str, Any]) -> None:
    """Write a network file in half precision, whole or not at all. `metadata` holds plain values only."""
    halved = {name: tensor.half() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, "state_dict": halved, "metadata": dict(metadata)}, temporary)


def read_click_network(path: Path, device: torch.device) -> ClickNetwork:
    """Read a network file; the network is ready for inference.

    Raises:
        UserError: the file is missing, damaged, or something else.
    """
    content = read_torch_file(path, FORMAT, "a click network", "cpu")
    network, weights = ClickNetwork(), content.get("state_dict")
    expected = network.state_dict()
    weights = weights if isinstance(weights, dict) else {}
    wrong = [name for name in {*expected, *weights} if not fits(weights.get(name), expected.get(name))]
    if wrong:
        raise UserError(f"{path} is damaged, or of another version: it does not fit in {first_few(sorted(wrong), 3)}")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def fits(weight: object, expected: Tensor | None) -> bool:
    """Return whether a weight is finite and of the expected shape."""
    return (
        isinstance(weight, Tensor)
        and expected is not None
        and weight.shape == expected.shape
        and bool(torch.isfinite(weight).all())
    )
