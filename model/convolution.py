"""Convolutions prepared for inference: batch norms folded into them, and 3×3 ones by Winograd's algorithm on a CPU."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FEWEST_PIXELS, FEWEST_CHANNELS = 1200, 128
"""For smaller images, or fewer channels in or out, transforming costs more than is saved."""


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution with padding 1, in float32 on a CPU by NNPACK's Winograd algorithm F(6×6, 3×3).

    PyTorch has NNPACK, but takes it for batches of 16 and more only. Whatever it cannot do is computed as ever.
    """

    @staticmethod
    def replaces(convolution: nn.Conv2d) -> bool:
        """Return whether a convolution is one that this algorithm can do, on this machine."""
        return (
            convolution.kernel_size == (3, 3)
            and convolution.padding == (1, 1)
            and convolution.stride == convolution.dilation == (1, 1)
            and convolution.groups == 1
            and convolution.weight.device.type == "cpu"
            and nnpack_available()
        )

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not is_worthwhile(input, weight):
            return super()._conv_forward(input, weight, bias)
        # One image at a time: for several NNPACK gains nothing.
        convolved = [torch._nnpack_spatial_convolution(one, weight, bias, padding=1) for one in input.split(1)]
        return convolved[0] if len(convolved) == 1 else torch.cat(convolved)


def nnpack_available() -> bool:
    """Return whether this PyTorch can use NNPACK on this processor. (Asking also starts it.)"""
    return hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()


def is_worthwhile(input: Tensor, weight: Tensor) -> bool:
    """Return whether NNPACK can convolve `input`, and is faster."""
    return (
        input.dim() == 4
        and input.dtype == weight.dtype == torch.float32
        and input.shape[2] * input.shape[3] >= FEWEST_PIXELS
        and min(weight.shape[:2]) >= FEWEST_CHANNELS
        and not torch.is_autocast_enabled("cpu")
        and not (torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad))
    )


def use_winograd(*parts: nn.Module) -> None:
    """Replace the convolutions in parts of a network that Winograd's algorithm can do."""
    for module in [each for part in parts for each in part.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and WinogradConv2d.replaces(child):
                setattr(module, name, _like(child, child.weight, child.bias, WinogradConv2d))


def side_by_side(convolutions: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution to the channels of these, which have the same input, one after another."""
    weight = torch.cat([each.weight for each in convolutions])
    bias = torch.cat([each.get_parameter("bias") for each in convolutions])
    return _like(convolutions[0], weight, bias)


def summed(convolutions: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution of the inputs of these, one after another, to the sum of their outputs."""
    weight = torch.cat([each.weight for each in convolutions], dim=1)
    bias = torch.stack([each.get_parameter("bias") for each in convolutions]).sum(dim=0)
    return _like(convolutions[0], weight, bias)


def _like(convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None, kind: type[nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with the kernel size and padding of another, and these weights."""
    out_dim, in_dim = weight.shape[:2]
    with torch.device("meta"):
        same = kind(in_dim, out_dim, convolution.kernel_size, padding=convolution.padding)  # type: ignore[arg-type]
    same.weight = nn.Parameter(weight, requires_grad=False)
    same.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return same.train(convolution.training)


def batch_norms_by_convolution(network: nn.Module) -> dict[nn.Module, nn.BatchNorm2d]:
    """Return every batch norm by the convolution that stands before it in its module, which has no bias."""
    found: dict[nn.Module, nn.BatchNorm2d] = {}
    for module in network.modules():
        for child, following in pairwise(module.children()):
            if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                assert child.bias is None
                assert following.eps == nn.BatchNorm2d(1).eps
                found[child] = following
    return found


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution that stands before it in its module, and make it the identity."""
    norms = batch_norms_by_convolution(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child in norms:
                setattr(module, name, fuse_conv_bn_eval(child, norms[child]))
            elif isinstance(child, nn.BatchNorm2d) and child in norms.values():
                setattr(module, name, nn.Identity())
