"""The processes that train together: `torchrun`'s, or just this one.

Which process holds a sample must not matter: the total batch decides what is learned.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from util.errors import UserError

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(days=1)
"""For another process, such as one that validates. Of one that has died `torchrun` knows at once, and ends all."""


@dataclass(frozen=True)
class Processes:
    """This process's place among them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def join(cls, device_type: str) -> "Processes":
        """Meet the others that `torchrun` started; alone without it. NCCL on CUDA devices, Gloo elsewhere."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=LONGEST_WAIT)
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def share_of(self, batch_size: int) -> range:
        """The indices of this process's samples in a batch.

        Raises:
            ValueError: the batch does not divide over the processes.
        """
        if batch_size % self.count:
            raise ValueError(f"a batch of {batch_size} samples does not divide over {self.count} processes")
        mine = batch_size // self.count
        return range(self.rank * mine, (self.rank + 1) * mine)

    def mean(self, values: Float[Tensor, " values"]) -> Float[Tensor, " values"]:
        """The mean over all processes, the same in each of them. Not finite anywhere: not finite everywhere."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so: all learn the same."""
        return bool(self.mean(torch.tensor([float(flag)], device=device)).item() > 0)

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, by rank: all learn the same."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def failing_together(self, device: torch.device) -> Iterator[None]:
        """A user error that any process runs into in this block is raised in all of them at its end.

        So none is left waiting for one that has gone, and any of them can tell the user.
        """
        message = ""
        try:
            yield
        except UserError as error:
            if self.count == 1:
                raise
            message = str(error)
        if self.count > 1 and self.any(bool(message), device):
            raise UserError(next(filter(None, self.gather(message))))
