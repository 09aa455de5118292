"""The two encoders: keys from the image alone, values from the image and an object's mask.

Both are residual networks or EfficientNet-Lite0, without what comes after stride 16.
"""

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.config import EFFICIENTNET, NetworkConfig
from model.convolution import side_by_side
from model.efficientnet_lite import CHANNELS, EfficientNetLite
from model.fusion import FusionBlock
from model.resnet import ResidualStages
from model.sensory import HiddenReinforcer

EFFICIENTNET_STAGES = 5
EFFICIENTNET_DIMS = (CHANNELS[1], CHANNELS[2], CHANNELS[3])
"""EfficientNet-Lite0's number of stages up to stride 16, and its channels at strides 4, 8 and 16."""


class ImageFeatures(NamedTuple):
    """The key encoder's features at three strides; the decoder's skip connections."""

    f16: Float[Tensor, "batch dim16 height width"]
    f8: Float[Tensor, "batch dim8 2*height 2*width"]
    f4: Float[Tensor, "batch dim4 4*height 4*width"]


class KeyEncoder(nn.Module):
    """Image features, the same for all objects (names are those of released files)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.channels_last = False  # on a CPU faster by a quarter, if the weights have the same layout
        self.efficientnet = None
        if config.key_encoder == EFFICIENTNET:
            self.efficientnet = EfficientNetLite(3, EFFICIENTNET_STAGES)
            self.dims = EFFICIENTNET_DIMS
            return
        resnet = ResidualStages(config.key_encoder, 3, config.encoder_width)
        self.dims = resnet.dims
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.res2, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> ImageFeatures:
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        if self.efficientnet is not None:
            _, f4, f8, f16 = self.efficientnet(image)
        else:
            f4 = self.res2(self.maxpool(self.relu(self.bn1(self.conv1(image)))))
            f8 = self.layer2(f4)
            f16 = self.layer3(f8)
        features = ImageFeatures(f16=f16, f8=f8, f4=f4)
        return ImageFeatures(*(each.contiguous() for each in features)) if self.channels_last else features


class QueryKey(NamedTuple):
    """What the projection makes of a frame. Shrinkage goes with a memory key, selection with a query (eq. 2)."""

    key: Float[Tensor, "batch key_dim height width"]
    shrinkage: Float[Tensor, "batch 1 height width"]
    selection: Float[Tensor, "batch key_dim height width"]


class KeyProjection(nn.Module):
    """Key, shrinkage in [1, ∞) and selection in [0, 1] from the stride-16 features, in float32 or wider.

    A term that the network does without (table 5) is 1 everywhere.
    """

    def __init__(self, in_dim: int, config: NetworkConfig) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(in_dim, config.key_dim, kernel_size=3, padding=1)
        self.d_proj = nn.Conv2d(in_dim, 1, kernel_size=3, padding=1) if config.use_shrinkage else None
        self.e_proj = nn.Conv2d(in_dim, config.key_dim, kernel_size=3, padding=1) if config.use_selection else None
        self.dims = (config.key_dim, int(config.use_shrinkage), config.key_dim * config.use_selection)
        self.joined: nn.Conv2d | None = None
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.get_parameter("bias"))

    def forward(self, f16: Float[Tensor, "batch in_dim height width"]) -> QueryKey:
        if self.joined is not None:
            projected = self.joined(f16)
        else:
            projected = torch.cat([convolution(f16) for convolution in self.convolutions], dim=1)
        # Under autocast the convolutions come out in half precision.
        projected = projected.to(torch.promote_types(projected.dtype, torch.float32))
        key, shrinkage, selection = projected.split(self.dims, dim=1)
        shrinkage = shrinkage.square() + 1 if self.dims[1] else torch.ones_like(key[:, :1])
        selection = torch.sigmoid(selection) if self.dims[2] else torch.ones_like(key)
        return QueryKey(key, shrinkage, selection)

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions to key, shrinkage and selection, as far as the network has them."""
        return [each for each in (self.key_proj, self.d_proj, self.e_proj) if each is not None]

    def join(self) -> None:
        """Replace the convolutions by one to all of their channels, for inference."""
        self.joined = side_by_side(self.convolutions)
        del self.key_proj, self.d_proj, self.e_proj


class ValueEncoder(nn.Module):
    """Values from image ⊕ own mask ⊕ the other objects' masks; on a deep update also refreshes the sensory memory."""

    def __init__(self, config: NetworkConfig, key_encoder_dim: int) -> None:
        super().__init__()
        self.objects_at_once: int | None = None  # objects that are encoded together; None: all
        self.channels_last = False  # up to the pooling, which on a CPU takes a fifth of the time then
        self.single_object = config.single_object
        mask_channels = 1 if config.single_object else 2
        self.efficientnet = None
        if config.value_encoder == EFFICIENTNET:
            self.efficientnet = EfficientNetLite(3 + mask_channels, EFFICIENTNET_STAGES)
            dim16 = EFFICIENTNET_DIMS[2]
        else:
            resnet = ResidualStages(config.value_encoder, 3 + mask_channels, config.encoder_width)
            self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
            self.layer1, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3
            dim16 = resnet.dims[2]
        self.fuser = FusionBlock(key_encoder_dim, dim16, config.value_dim)
        self.hidden_reinforce = (
            HiddenReinforcer(config.value_dim, config.hidden_dim) if config.has_sensory_memory else None
        )

    @property
    def first_convolution(self) -> nn.Conv2d:
        """The convolution whose input is the image with the masks."""
        return self.conv1 if self.efficientnet is None else self.efficientnet.stem

    def forward(
        self,
        image: Float[Tensor, "batch 3 height width"],
        f16: Float[Tensor, "batch dim16 height/16 width/16"],
        masks: Float[Tensor, "batch objects height width"],
    ) -> Float[Tensor, "batch objects value_dim height/16 width/16"]:
        objects = masks.shape[1]
        layers = [image.unsqueeze(1).expand(-1, objects, -1, -1, -1), masks.unsqueeze(2).to(image.dtype)]
        if not self.single_object:
            layers.append(sum_of_others(masks).unsqueeze(2).to(image.dtype))
        x = torch.cat(layers, dim=2)
        own = [self.own_features(part) for part in x.split(self.objects_at_once or objects, dim=1)]
        return self.fuser(f16, own[0] if len(own) == 1 else torch.cat(own, dim=1))

    def own_features(
        self, x: Float[Tensor, "batch objects channels height width"]
    ) -> Float[Tensor, "batch objects dim height/16 width/16"]:
        """Encode some objects' images with masks."""
        flat = x.flatten(0, 1)
        if self.channels_last:
            flat = flat.contiguous(memory_format=torch.channels_last)
        if self.efficientnet is not None:
            features = self.efficientnet(flat)[-1]
            return (features.contiguous() if self.channels_last else features).unflatten(0, x.shape[:2])
        features = self.maxpool(self.relu(self.bn1(self.conv1(flat))))
        if self.channels_last:
            features = features.contiguous()
        return self.layer3(self.layer2(self.layer1(features))).unflatten(0, x.shape[:2])


def sum_of_others(masks: Float[Tensor, "batch objects height width"]) -> Float[Tensor, "batch objects height width"]:
    """For each object the sum of all other objects' masks, added up directly: no difference of sums, no rounding."""
    if torch.is_grad_enabled() and masks.requires_grad and masks.shape[1] > 1:  # the same without writing to views
        each = masks.unbind(dim=1)
        return torch.stack([reduce(torch.add, each[:index] + each[index + 1 :]) for index in range(len(each))], dim=1)
    others = torch.zeros_like(masks)
    for index in range(masks.shape[1]):
        mask = masks[:, index : index + 1]
        others[:, :index] += mask
        others[:, index + 1 :] += mask
    return others
