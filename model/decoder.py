"""The decoder: from what was read from memory to one mask logit per object, with skip connections from the image."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.config import NetworkConfig
from model.encoders import ImageFeatures
from model.fusion import FusionBlock, ResidualBlock
from model.sensory import HiddenUpdater


class UpsampleBlock(nn.Module):
    """Doubles the resolution: the coarse feature upsampled, plus the image's skip, then a residual block."""

    def __init__(self, skip_dim: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_dim, in_dim, kernel_size=3, padding=1)
        self.out_conv = ResidualBlock(in_dim, out_dim)

    def forward(
        self,
        skip: Float[Tensor, "batch skip_dim height width"],
        coarse: Float[Tensor, "batch objects in_dim height/2 width/2"],
    ) -> Float[Tensor, "batch objects out_dim height width"]:
        upsampled = F.interpolate(coarse.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False)
        joined = upsampled.unflatten(0, coarse.shape[:2]) + self.skip_conv(skip).unsqueeze(1)
        return self.out_conv(joined.flatten(0, 1)).unflatten(0, coarse.shape[:2])


class Decoded(NamedTuple):
    """Mask logits at the image's resolution, and the sensory memory after this frame (None without one)."""

    logits: Float[Tensor, "batch objects height width"]
    hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None


class Decoder(nn.Module):
    """Fuses readout, sensory memory and image features; updates the sensory memory from its own features."""

    def __init__(self, config: NetworkConfig, encoder_dims: tuple[int, int, int]) -> None:
        super().__init__()
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
        """Logits (before the sigmoid), upsampled to the image; the hidden state is new only if `update_hidden`."""
        own = readout if hidden is None else torch.cat([readout, hidden.to(readout.dtype)], dim=2)
        g16 = self.fuser(features.f16, own)
        g8 = self.up_16_8(features.f8, g16)
        g4 = self.up_8_4(features.f4, g8)
        logits = self.pred(F.relu(g4.flatten(0, 1)))
        if update_hidden and hidden is not None:
            g4_with_logits = torch.cat([g4, logits.unflatten(0, g4.shape[:2])], dim=2)
            assert self.hidden_update is not None
            hidden = self.hidden_update(g16, g8, g4_with_logits, hidden)
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        return Decoded(logits.view(*g4.shape[:2], *logits.shape[-2:]), hidden)
