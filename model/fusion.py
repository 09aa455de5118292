"""Fusing what all objects share (image features) with what each object has of its own.

The fusion block joins image features x with per-object features g. Its first convolutions see x ⊕ g; since a
convolution is linear, x's part is computed once per frame and not once per object.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.cbam import CBAM


def convolve_shared(
    convolution: nn.Conv2d,
    shared: Float[Tensor, "batch shared_dim height width"],
    own: Float[Tensor, "batch objects own_dim height width"],
) -> Float[Tensor, "batch objects out_dim height width"]:
    """Return `convolution` of shared ⊕ own for every object; shared channels are convolved once for all of them."""
    shared_weight, own_weight = convolution.weight.split([shared.shape[1], own.shape[2]], dim=1)
    once = convolution._conv_forward(shared, shared_weight, convolution.bias)
    each = convolution._conv_forward(own.flatten(0, 1), own_weight, None)
    return add_shared(each.unflatten(0, own.shape[:2]), once)


def add_shared(
    own: Float[Tensor, "batch objects dim height width"], shared: Float[Tensor, "batch dim height width"]
) -> Float[Tensor, "batch objects dim height width"]:
    """`own` + `shared` for every object; in place unless gradients are recorded, since a written view costs copies."""
    return own + shared.unsqueeze(1) if torch.is_grad_enabled() else own.add_(shared.unsqueeze(1))


class ResidualBlock(nn.Module):
    """conv2(relu(conv1(relu(x)))) + skip, without normalisation; the skip is convolved where the widths differ."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1) if in_dim != out_dim else None
        self.conv1 = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "batch in_dim height width"]) -> Float[Tensor, "batch out_dim height width"]:
        skip = x if self.downsample is None else self.downsample(x)
        return self.conv2(F.relu_(self.conv1(F.relu(x)))).add_(skip)

    def forward_shared(
        self,
        shared: Float[Tensor, "batch shared_dim height width"],
        own: Float[Tensor, "batch objects own_dim height width"],
    ) -> Float[Tensor, "batch objects out_dim height width"]:
        """`forward` of shared ⊕ own for every object; in_dim = shared_dim + own_dim differs from out_dim here."""
        if own.shape[1] == 1:
            return self(torch.cat([shared, own[:, 0]], dim=1)).unsqueeze(1)
        inner = F.relu_(convolve_shared(self.conv1, F.relu(shared), F.relu(own)))
        assert self.downsample is not None
        skip = convolve_shared(self.downsample, shared, own)
        return self.conv2(inner.flatten(0, 1)).add_(skip.flatten(0, 1)).view_as(skip)


class FusionBlock(nn.Module):
    """y = block1(x ⊕ g); block2(y + CBAM(y)), for image features x and each object's features g."""

    def __init__(self, shared_dim: int, own_dim: int, out_dim: int) -> None:
        super().__init__()
        if shared_dim + own_dim == out_dim:
            raise ValueError(
                f"a fusion block must change the width: {shared_dim} + {own_dim} channels in, {out_dim} out"
            )
        self.block1 = ResidualBlock(shared_dim + own_dim, out_dim)
        self.attention = CBAM(out_dim)
        self.block2 = ResidualBlock(out_dim, out_dim)

    def forward(
        self,
        shared: Float[Tensor, "batch shared_dim height width"],
        own: Float[Tensor, "batch objects own_dim height width"],
    ) -> Float[Tensor, "batch objects out_dim height width"]:
        fused = self.block1.forward_shared(shared, own)
        flat = fused.flatten(0, 1)
        return self.block2(flat + self.attention(flat)).view_as(fused)
