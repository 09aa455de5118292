"""CBAM (Woo et al., ECCV 2018): a channel gate, then a spatial gate."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ChannelGate(nn.Module):
    """Scales each channel by what its global average and maximum say about it."""

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(dim // reduction, 1)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(dim, narrow), nn.ReLU(), nn.Linear(narrow, dim))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        pooled = torch.stack([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)])
        gate = self.mlp(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2]).sum(dim=0)
        return x * torch.sigmoid(gate)[:, :, None, None]


class SpatialConvolution(nn.Module):
    """The spatial gate's convolution, in a module of its own because released files call it `spatial.conv`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, x: Float[Tensor, "batch 2 height width"]) -> Float[Tensor, "batch 1 height width"]:
        return self.conv(x)


class SpatialGate(nn.Module):
    """Scales each position by what the maximum and mean over channels look like around it."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = SpatialConvolution()

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate. (Names are those of released files.)"""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(dim)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        return self.SpatialGate(self.ChannelGate(x))
