"""Residual networks (He et al., CVPR 2016) up to stride 16.

The parts have torchvision's names, and so do the weights of released files. (Its own blocks would do, but importing
them takes a second and 160 MiB.)
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.config import RESIDUAL_ENCODERS


class ResidualStages(nn.Module):
    """The part of a residual network up to stride 16, `in_dim` channels in; `dims` come out at strides 4, 8 and 16.

    With a `width` of 64 it has the sizes of the published networks.
    """

    def __init__(self, name: str, in_dim: int, width: int) -> None:
        super().__init__()
        bottleneck, counts = RESIDUAL_ENCODERS[name]
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(in_dim, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        dim4 = width * block.expansion
        self.dims = (dim4, 2 * dim4, 4 * dim4)
        self.layer1 = residual_stage(block, width, width, counts[0], stride=1)
        self.layer2 = residual_stage(block, self.dims[0], 2 * width, counts[1], stride=2)
        self.layer3 = residual_stage(block, self.dims[1], 4 * width, counts[2], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, added to the input."""

    expansion = 1

    def __init__(self, in_dim: int, dim: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(in_dim, dim, 3, stride)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = convolution(dim, dim, 3)
        self.bn2 = nn.BatchNorm2d(dim)
        self.downsample = shortcut(in_dim, dim, stride)

    def forward(self, x: Float[Tensor, "batch in_dim height width"]) -> Float[Tensor, "batch out_dim rows columns"]:
        inner = F.relu_(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(inner))
        return F.relu_(inner.add_(self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    """A 3×3 convolution of few channels between two of 1×1, added to the input."""

    expansion = 4

    def __init__(self, in_dim: int, dim: int, stride: int = 1) -> None:
        super().__init__()
        out_dim = dim * self.expansion
        self.conv1 = convolution(in_dim, dim, 1)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = convolution(dim, dim, 3, stride)
        self.bn2 = nn.BatchNorm2d(dim)
        self.conv3 = convolution(dim, out_dim, 1)
        self.bn3 = nn.BatchNorm2d(out_dim)
        self.downsample = shortcut(in_dim, out_dim, stride)

    def forward(self, x: Float[Tensor, "batch in_dim height width"]) -> Float[Tensor, "batch out_dim rows columns"]:
        inner = F.relu_(self.bn1(self.conv1(x)))
        inner = F.relu_(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        return F.relu_(inner.add_(self.downsample(x) if self.downsample else x))


def convolution(in_dim: int, out_dim: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, since a batch norm follows."""
    return nn.Conv2d(in_dim, out_dim, kernel, stride, padding=kernel // 2, bias=False)


def shortcut(in_dim: int, out_dim: int, stride: int) -> nn.Sequential | None:
    """Return what brings a block's input to the shape of its output, if they differ."""
    if stride == 1 and in_dim == out_dim:
        return None
    return nn.Sequential(convolution(in_dim, out_dim, 1, stride), nn.BatchNorm2d(out_dim))


def residual_stage(
    block: type[BasicBlock] | type[Bottleneck], in_dim: int, dim: int, count: int, stride: int
) -> nn.Sequential:
    """Return the blocks of one stage; the first changes resolution and width."""
    rest = [block(dim * block.expansion, dim) for _ in range(count - 1)]
    return nn.Sequential(block(in_dim, dim, stride), *rest)
