"""Sensory memory: the state of each object's GRU (section 3.5)."""

import torch
from jaxtyping import Float
from torch import Tensor


class SensoryMemory:
    """The hidden states of all objects, in channel order. With `hidden_dim` 0 there are none."""

    def __init__(self, hidden_dim: int) -> None:
        self.hidden_dim = hidden_dim
        self.hidden: Float[Tensor, "1 objects hidden_dim height width"] | None = None
        """The states, as the decoder or a deep update left them; None where there is no object, or no such memory."""

    def add_objects(self, count: int, like: Float[Tensor, "1 key_dim height width"]) -> None:
        """Add zeros for new objects, with the spatial size, type and device of a key."""
        if self.hidden_dim == 0 or count == 0:
            return
        new = like.new_zeros(1, count, self.hidden_dim, *like.shape[-2:])
        self.hidden = new if self.hidden is None else torch.cat([self.hidden, new.to(self.hidden.dtype)], dim=1)

    def keep(self, channels: list[int]) -> None:
        """Drop the states of all but these channels."""
        if self.hidden is not None:
            self.hidden = self.hidden[:, channels] if channels else None
