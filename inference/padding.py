"""Image sizes the network can take: zero padding to multiples of its stride, and back."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Zeros on each side of an image; where their number is odd, the larger half comes after."""

    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def to_multiple(cls, height: int, width: int, multiple: int) -> "Padding":
        """The least padding after which both sides are multiples of `multiple`."""
        rows, columns = -height % multiple, -width % multiple
        return cls(left=columns // 2, right=columns - columns // 2, top=rows // 2, bottom=rows - rows // 2)

    def pad(self, x: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels padded_height padded_width"]:
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def crop(self, x: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels cropped_height cropped_width"]:
        height, width = x.shape[-2:]
        return x[:, self.top : height - self.bottom, self.left : width - self.right]
