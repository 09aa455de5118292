"""Sensory memory: the GRU's state of each object, zeros when an object first appears."""

import torch
from jaxtyping import Float
from torch import Tensor


class SensoryMemory:
    """The hidden state of all objects, in channel order. `hidden_dim` 0 is the network without sensory memory."""

    def __init__(self, hidden_dim: int) -> None:
        self.hidden_dim = hidden_dim
        self.hidden: Float[Tensor, "1 objects hidden_dim height width"] | None = None

    def add_objects(self, count: int, like: Float[Tensor, "1 key_dim height width"]) -> None:
        """States for new objects, of the spatial size, type and device of a key."""
        if self.hidden_dim == 0 or count == 0:
            return
        new = like.new_zeros(1, count, self.hidden_dim, *like.shape[-2:])
        self.hidden = new if self.hidden is None else torch.cat([self.hidden, new.to(self.hidden.dtype)], dim=1)

    def keep(self, channels: list[int]) -> None:
        """Keep the states at these channels only."""
        if self.hidden is not None:
            self.hidden = self.hidden[:, channels] if channels else None
