"""The decoder: from what was read from memory to one mask logit per object, with skip connections from the image."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.config import NetworkConfig
from model.encoders import ImageFeatures
from model.fusion import FusionBlock, ResidualBlock, add_shared
from model.sensory import HiddenUpdater


class UpsampleBlock(nn.Module):
    """Doubles the resolution: the coarse feature upsampled, plus the image's skip, then a residual block."""

    def __init__(self, skip_dim: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_dim, in_dim, kernel_size=3, padding=1)
        self.out_conv = ResidualBlock(in_dim, out_dim)

    def forward(
        self,
        skip: Float[Tensor, "batch in_dim height width"],
        coarse: Float[Tensor, "batch objects in_dim height/2 width/2"],
    ) -> Float[Tensor, "batch objects out_dim height width"]:
        """Double the resolution of `coarse`; `skip` is what `skip_conv` makes of the image features."""
        upsampled = F.interpolate(coarse.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False)
        joined = add_shared(upsampled.unflatten(0, coarse.shape[:2]), skip)
        return self.out_conv(joined.flatten(0, 1)).unflatten(0, coarse.shape[:2])


class Decoded(NamedTuple):
    """Mask logits at the image's resolution, and the sensory memory after this frame (None without one)."""

    logits: Float[Tensor, "batch objects height width"]
    hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None


class Upsampled(NamedTuple):
    """Mask logits at stride 4, and the features of strides 8 and 4 (⊕ logits) averaged to stride 16."""

    logits: Float[Tensor, "batch objects 1 4*height 4*width"]
    pooled8: Float[Tensor, "batch objects dim8 height width"] | None
    pooled4: Float[Tensor, "batch objects dim4_1 height width"] | None


class Decoder(nn.Module):
    """Fuses readout, sensory memory and image features; updates the sensory memory from its own features.

    `objects_at_once` is the number of objects that are brought to high resolution together, all by default: on a CPU
    one at a time is as fast, and needs less memory.
    """

    def __init__(self, config: NetworkConfig, encoder_dims: tuple[int, int, int]) -> None:
        super().__init__()
        self.objects_at_once: int | None = None
        skip4, skip8, skip16 = encoder_dims
        dim16, dim8, dim4 = config.decoder_dims
        self.fuser = FusionBlock(skip16, config.value_dim + config.hidden_dim, dim16)
        self.hidden_update = (
            HiddenUpdater(config.decoder_dims, config.sensory_update_dim, config.hidden_dim)
            if config.has_sensory_memory
            else None
        )
        self.up_16_8 = UpsampleBlock(skip8, dim16, dim8)
        self.up_8_4 = UpsampleBlock(skip4, dim8, dim4)
        self.pred = nn.Conv2d(dim4, 1, kernel_size=3, padding=1)

    def forward(
        self,
        features: ImageFeatures,
        readout: Float[Tensor, "batch objects value_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"] | None,
        update_hidden: bool = True,
    ) -> Decoded:
        """Return mask logits (before the sigmoid) at the image's size, and the sensory memory.

        With `update_hidden` that is the one after the decoder's update, otherwise `hidden` unchanged.
        """
        own = readout if hidden is None else torch.cat([readout, hidden.to(readout.dtype)], dim=2)
        g16 = self.fuser(features.f16, own)
        skip8, skip4 = self.up_16_8.skip_conv(features.f8), self.up_8_4.skip_conv(features.f4)
        update_hidden = update_hidden and hidden is not None
        split = (g16,) if self.objects_at_once is None else g16.split(self.objects_at_once, dim=1)
        parts = [self.upsampled(part, skip8, skip4, update_hidden) for part in split]
        logits, pooled8, pooled4 = parts[0]
        if len(parts) > 1:
            logits = torch.cat([part.logits for part in parts], dim=1)
        if update_hidden:
            assert self.hidden_update is not None
            assert hidden is not None
            if len(parts) > 1:
                pooled8, pooled4 = (torch.cat(pooled, dim=1) for pooled in list(zip(*parts, strict=True))[1:])
            hidden = self.hidden_update(g16, pooled8, pooled4, hidden)
        logits = F.interpolate(logits.flatten(0, 1), scale_factor=4, mode="bilinear", align_corners=False)
        return Decoded(logits.view(*g16.shape[:2], *logits.shape[-2:]), hidden)

    def upsampled(
        self,
        g16: Float[Tensor, "batch objects dim16 height width"],
        skip8: Float[Tensor, "batch dim16 2*height 2*width"],
        skip4: Float[Tensor, "batch dim8 4*height 4*width"],
        pool: bool,
    ) -> Upsampled:
        """Bring some objects to stride 4; with `pool` also return what the sensory memory takes in."""
        g8 = self.up_16_8(skip8, g16)
        g4 = self.up_8_4(skip4, g8)
        shape = g4.shape[:2]
        logits = self.pred(F.relu(g4.flatten(0, 1)))
        pooled8 = pooled4 = None
        if pool:
            pooled8 = F.avg_pool2d(g8.flatten(0, 1), 2).unflatten(0, shape)
            pooled4 = torch.cat([F.avg_pool2d(g4.flatten(0, 1), 4), F.avg_pool2d(logits, 4)], dim=1).unflatten(0, shape)
        return Upsampled(logits.unflatten(0, shape), pooled8, pooled4)
