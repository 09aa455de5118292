"""The image features of EfficientNet-Lite0 (M. Tan and Q. Le, ICML 2019, and TensorFlow's "Lite" variant of it).

Batch normalisations are folded into the convolutions before them, so that every convolution has a bias.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STEM = 32
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4))
"""Expansion, kernel, stride, channels and number of blocks of each stage. The last stage, of 320 channels, and the
classifier are left out."""
TAPPED = (0, 1, 2, 4, 5)
"""The stages whose output is returned: the last ones of strides 2, 4, 8, 16 and 32."""
CHANNELS = tuple(STAGES[stage][3] for stage in TAPPED)
STRIDE = 32


STRIP = 7 * 2**20
"""Bytes of expanded features of one image that are computed at once."""


class SameConv2d(nn.Conv2d):
    """A convolution with bias that pads as TensorFlow does: at stride 2, more after the image than before it."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_dim, out_dim, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, input: Float[Tensor, "batch in_dim height width"]) -> Float[Tensor, "batch out_dim rows columns"]:
        if self.stride[0] == 2:
            before = (self.kernel_size[0] - 2) // 2
            after = self.kernel_size[0] - 2 - before
            input = F.pad(input, (before, after, before, after))
        return super().forward(input)

    def unpadded(
        self, input: Float[Tensor, "batch in_dim height width"]
    ) -> Float[Tensor, "batch out_dim rows columns"]:
        """Convolve what has been padded already."""
        return super().forward(input)


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution and projection, added to the input where the shapes allow."""

    def __init__(self, in_dim: int, out_dim: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = in_dim * expansion
        self.expand = SameConv2d(in_dim, inner) if expansion > 1 else nn.Identity()
        self.depthwise = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv2d(inner, out_dim)
        self.is_residual = stride == 1 and in_dim == out_dim
        self.in_strips = False
        """Where it halves the resolution, compute a few rows after others: on a CPU this takes half the time."""

    def forward(self, x: Float[Tensor, "batch in_dim height width"]) -> Float[Tensor, "batch out_dim rows columns"]:
        if self.in_strips and self.depthwise.stride[0] == 2:
            return self.strip_by_strip(x)
        inner = x if isinstance(self.expand, nn.Identity) else F.relu6(self.expand(x), inplace=True)
        inner = F.relu6(self.depthwise(inner), inplace=True)
        out = self.project(inner)
        return out.add_(x) if self.is_residual else out

    def strip_by_strip(
        self, x: Float[Tensor, "batch in_dim height width"]
    ) -> Float[Tensor, "batch out_dim height/2 width/2"]:
        """Compute in strips of rows, so that a strip's expanded features, six times its input's, stay in the cache."""
        height, width = x.shape[2:]
        kernel = self.depthwise.kernel_size[0]
        at_once = max(1, STRIP // (2 * width * self.depthwise.in_channels * x.element_size()))
        before = (kernel - 2) // 2
        after = kernel - 2 - before
        strips = []
        for begin in range(0, height // 2, at_once):
            end = min(begin + at_once, height // 2)
            top, bottom = 2 * begin - before, 2 * end + after
            inner = F.relu6(self.expand(x[:, :, max(top, 0) : bottom]), inplace=True)
            inner = F.pad(inner, (before, after, max(-top, 0), max(bottom - height, 0)))
            strips.append(self.project(F.relu6(self.depthwise.unpadded(inner), inplace=True)))
        return torch.cat(strips, dim=2)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its last stage: all others, up to stride 32, or the first few.

    Args:
        in_dim: channels of the image.
        stages: number of stages; 5 lead to stride 16.
    """

    def __init__(self, in_dim: int = 3, stages: int = len(STAGES)) -> None:
        super().__init__()
        self.stem = SameConv2d(in_dim, STEM, 3, stride=2)
        self.stages = nn.ModuleList()
        in_dim = STEM
        for expansion, kernel, stride, out_dim, count in STAGES[:stages]:
            blocks = []
            for block in range(count):
                blocks.append(InvertedBottleneck(in_dim, out_dim, expansion, kernel, 1 if block else stride))
                in_dim = out_dim
            self.stages.append(nn.Sequential(*blocks))
        for name, module in self.named_modules():
            if isinstance(module, SameConv2d):  # activations neither vanish nor explode, also without normalisation
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if name.endswith("project") else "relu")
                nn.init.zeros_(module.get_parameter("bias"))

    def forward(self, image: Float[Tensor, "batch in_dim height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the features at strides 2, 4, 8, 16 and 32, as far as there are stages, of normalised images.

        The sides of the images are multiples of the last stride.
        """
        x = F.relu6(self.stem(image), inplace=True)
        features = []
        for stage, blocks in enumerate(self.stages):
            x = blocks(x)
            if stage in TAPPED:
                features.append(x)
        return features
