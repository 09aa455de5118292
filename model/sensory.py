"""Sensory memory (section 3.5): a convolutional GRU for each object, with two updates that have separate weights.

The decoder updates it from its features at several strides. On memory frames a *deep update* updates it from the value
encoder's output: in training after the decoder's update, in inference (as published) in place of it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.convolution import summed


class GRU(nn.Module):
    """The equation of both updates: h′ = σ(f)·h·(1 − σ(u)) + σ(u)·tanh(n).

    Not the textbook GRU: the candidate n does not see a reset gate.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(input_dim + hidden_dim, 3 * hidden_dim, kernel_size=3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def update(
        self,
        observed: Float[Tensor, "batch objects input_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"],
    ) -> Float[Tensor, "batch objects hidden_dim height width"]:
        gates = self.transform(torch.cat([observed, hidden], dim=2).flatten(0, 1)).to(hidden.dtype)
        gates, new = gates.unflatten(0, hidden.shape[:2]).split([2 * hidden.shape[2], hidden.shape[2]], dim=2)
        forget, update = torch.sigmoid(gates).chunk(2, dim=2)
        return torch.lerp(forget * hidden, torch.tanh(new), update)


class HiddenReinforcer(GRU):
    """Deep update: the sensory memory takes in the value that was just encoded."""

    def forward(
        self,
        value: Float[Tensor, "batch objects value_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"],
    ) -> Float[Tensor, "batch objects hidden_dim height width"]:
        return self.update(value, hidden)


class HiddenUpdater(GRU):
    """The decoder's update: the sensory memory takes in its features of strides 16, 8 and 4."""

    def __init__(self, decoder_dims: tuple[int, int, int], update_dim: int, hidden_dim: int) -> None:
        super().__init__(update_dim, hidden_dim)
        self.g16_conv = nn.Conv2d(decoder_dims[0], update_dim, kernel_size=1)
        self.g8_conv = nn.Conv2d(decoder_dims[1], update_dim, kernel_size=1)
        self.g4_conv = nn.Conv2d(decoder_dims[2] + 1, update_dim, kernel_size=1)
        self.joined: nn.Conv2d | None = None

    def forward(
        self,
        g16: Float[Tensor, "batch objects dim16 height width"],
        pooled8: Float[Tensor, "batch objects dim8 height width"],
        pooled4: Float[Tensor, "batch objects dim4_1 height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"],
    ) -> Float[Tensor, "batch objects hidden_dim height width"]:
        """Return the new state, given the decoder's features, those of strides 8 and 4 (⊕ logits) averaged to 16."""
        flat = [feature.flatten(0, 1) for feature in (g16, pooled8, pooled4)]
        if self.joined is not None:
            observed = self.joined(torch.cat(flat, dim=1))
        else:
            observed = self.g16_conv(flat[0]) + self.g8_conv(flat[1]) + self.g4_conv(flat[2])
        return self.update(observed.unflatten(0, hidden.shape[:2]), hidden)

    def join(self) -> None:
        """Replace the three projections by one of the same sum, for inference."""
        self.joined = summed([self.g16_conv, self.g8_conv, self.g4_conv])
        del self.g16_conv, self.g8_conv, self.g4_conv
